"""What each part of the report reads from the configuration: these keys alone, so that no other makes it anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hps.support.errors import InputError
from hps.support.files import read_json

NEEDS = {
    "table": ("world", "evaluation.bleu", "evaluation.margin_pair", "evaluation.resamples"),
    "figure": ("world",),
    "claims": (
        *("world", "evaluation.bleu", "evaluation.margin_pair"),
        *("claims.alpha", "claims.resamples", "grid.n", "objective.beta", "ablations.dataset"),
    ),
    "audit": ("world", "candidates.truncated", "evaluation.resamples"),
    "theory": ("theory",),
    "cost": ("world",),
}
"""Keys by part; a table or figure of an ablation has further ones (`TableSpec.needs`)."""


def needed(config: Any, part: str, further: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values that a part needs, by dotted key. Raises KeyError where the configuration has none."""
    values = {}
    for key in (*NEEDS[part], *further):
        value = config
        for step in key.split("."):
            value = value[step]
        values[key] = value
    return values


def read_config(path: str | Path) -> Mapping[str, Any]:
    """The values of a resolved configuration (`config.json`). Raises InputError when it is none."""
    if not Path(path).is_file():
        raise InputError(path, "missing; `snakemake RESULTS/config.json` writes it")
    resolved = read_json(path)
    if not isinstance(resolved, dict) or not all(isinstance(resolved.get(k), dict) for k in ("values", "origins")):
        raise InputError(path, "is no resolved configuration: it needs the mappings values and origins")
    return resolved["values"]
