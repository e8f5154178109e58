"""A run: one training of one policy. Its folder, its rows in the tables and its records are named after it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from hps.support.errors import InputError

Setting = bool | int | float | str | tuple
"""A value of the configuration as a run holds it; lists are tuples there."""


@dataclass(frozen=True, order=True)
class Run:
    """What is trained. Two runs that are equal are one training.

    `settings` are the configuration's other values that this run has in place of the configured ones, by their keys in
    the order of the alphabet: `(("objective.multiplicity", 1), ("training.lora_rank", 16))`.
    """

    dataset: str
    parameterization: str
    loss: str
    n: int  # responses a prompt
    beta: float
    seed: int
    settings: tuple[tuple[str, Setting], ...] = ()

    @property
    def method(self) -> str:
        """The name of its rows: `dpo-hps`."""
        return f"{self.parameterization}-{self.loss}"

    @property
    def row(self) -> str:
        """Its row among runs of several settings: its method, then its settings: `dpo-hps multiplicity~1`."""
        return " ".join([self.method, *(f"{name}~{word}" for name, word in self._words().items())])

    @property
    def name(self) -> str:
        """Its folder below `runs/`: `dataset~hh_rlhf/method~dpo-hps_n~100_beta~0.1_seed~0`, then its settings."""
        parts = {"method": self.method, "n": self.n, "beta": self.beta, "seed": self.seed}
        return f"dataset~{self.dataset}/" + "_".join(f"{key}~{value}" for key, value in (parts | self._words()).items())

    def _words(self) -> dict[str, str]:
        return {key.rpartition(".")[2]: _word(value) for key, value in self.settings}

    def record(self) -> dict[str, Any]:
        """The run as JSON has it; `Run.read` is the reverse."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return values | {"settings": {key: _plain(value) for key, value in self.settings}}

    @classmethod
    def read(cls, record: Any, where: object) -> Run:
        """The run of a record. Raises InputError naming `where` and the field where one is missing or wrong."""
        kinds = {"dataset": str, "parameterization": str, "loss": str, "n": int, "beta": float, "seed": int}
        if not isinstance(record, Mapping) or not record.keys() >= kinds.keys():
            raise InputError(where, f"run must have the fields {', '.join(kinds)}; it is {record!r}")
        for name, kind in kinds.items():
            value = record[name]
            good = isinstance(value, int | float) and math.isfinite(value) if kind is float else type(value) is kind
            if not good or isinstance(value, bool):
                raise InputError(where, f"run.{name} is {value!r}, not a {kind.__name__}")
        settings = record.get("settings", {})
        if not isinstance(settings, Mapping):
            raise InputError(where, f"run.settings is {settings!r}, not a mapping of keys to values")
        return cls(**{name: record[name] for name in kinds}, settings=as_settings(settings))


def as_settings(values: Mapping[str, Any]) -> tuple[tuple[str, Setting], ...]:
    """Values by key as a run holds them."""
    return tuple(sorted((key, tuple(value) if isinstance(value, list) else value) for key, value in values.items()))


def training_seeds(config: Mapping[str, Any], what: str) -> list[int]:
    """The training seeds of a method of the grid, of `ablations` or of `attribution`."""
    return config["seeds_of"].get(what, config["seeds"])


MULTIPLICITIES = {"1": 1, "n": "n_minus_1"}
SAMPLINGS = {
    "uniform": {"objective.gamma_levels": [0]},
    "hard": {},
    "hardest": {"objective.gamma_levels": ["inf"]},
    "mean - 2 sd": {"objective.negative": "mean_minus_2sd"},
}
"""How Table A's negatives come about."""


def parts_of_hps(multiplicity: str | int) -> dict[tuple[str, str], tuple[tuple[str, Setting], ...]]:
    """The cells of Table A, (sampling, N), with the settings of their runs.

    Sampling is one of SAMPLINGS; N is 1 or n. Hard sampling (the schedule of gamma) with the `multiplicity`
    that is configured has no settings: it is the grid's own run.
    """
    return {
        (sampling, n): as_settings(levels | ({} if value == multiplicity else {"objective.multiplicity": value}))
        for sampling, levels in SAMPLINGS.items()
        for n, value in MULTIPLICITIES.items()
    }


def _plain(value: Setting) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _word(value: Setting) -> str:
    """A value as part of a folder's name."""
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return re.sub(r"[^A-Za-z0-9.,+-]", "-", text)
