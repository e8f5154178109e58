"""Settings: config/schema.yaml says of each its key, type, meaning and default; here is which of them a command takes.

A command inherits its settings from `taken_by`, so they are options of its command line without being listed again. The
rules write them with `options`. In the schema, `cost: true` marks what changes memory or time and no result.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, make_dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from hps.support.yaml_file import read_yaml

SCHEMA = Path(__file__).parents[3] / "config" / "schema.yaml"
SAMPLING = ("compute.generation", "compute.sequences", "compute.tensor_parallel", "compute.dtype")
MODEL_KEYS = {
    "hub": ("repo", "revision"),
    "path": ("path",),
    "gguf": ("package", "file"),
    "scratch": ("replies", "epochs", "learning_rate", "seed"),
    "probe": ("base", "split", "layers", "holdout", "seed"),
    "trained": ("base", "split", "epochs", "learning_rate", "batch_size", "lora_rank", "lora_layers", "seed"),
}
"""What each model source needs beside `source`."""


def _of_model(*sources: str) -> tuple[str, ...]:
    """What a command takes of the models that come from these sources; `base` and `split` name its inputs."""
    return tuple(f"model.{key}" for one in sources for key in MODEL_KEYS[one] if key not in ("base", "split"))


DATASET = ("dataset.format", "dataset.label", "dataset.hub", "dataset.hub_revision")
REWARD_MODEL = ("compute.dtype", "training.max_length", "rewards.system_turn")
TAKES = {
    "toy_data": ("toy",),
    "download": (
        *DATASET,
        *("data.max_prompt_chars", "data.max_response_chars", "data.train_from_fraction", "data.splits"),
    ),
    "build_tokenizer": ("models.tokenizer",),
    "pretrain": _of_model("scratch"),
    "fetch_model": ("model.source", *_of_model("hub", "path", "gguf"), "compute.dtype"),
    "fetch_published": ("policy.repo", "policy.revision", "policy.folder"),
    "train_reward_model": (*_of_model("trained"), *REWARD_MODEL),
    "fit_probe": (*_of_model("probe"), *REWARD_MODEL),
    "augment": ("candidates.temperature", "candidates.top_p", "candidates.max_new_tokens", *SAMPLING),
    "annotate": ("rewards", "compute.score_tokens"),
    "reference": ("compute.dtype", "compute.score_tokens"),
    "train": (
        *("objective", "candidates.truncated", "candidates.human_first", "training", "tensorboard", "compute.dtype"),
        *("compute.train_tokens", "compute.activation_checkpointing", "compute.processes"),
    ),
    "evaluate": (
        *("evaluation.sampled_prompts", "evaluation.samples", "evaluation.temperature", "evaluation.max_new_tokens"),
        *("evaluation.pick", "evaluation.bleu_reference", "candidates.truncated", "rewards", "compute.score_tokens"),
        *SAMPLING,
    ),
    "judge": (
        *("judge.source", "judge.samples", "judge.orders", "judge.temperature", "judge.answer_tokens"),
        *("judge.token_limit", "judge.structured_output", "judge.concurrency", "judge.timeout", "judge.retries"),
        *("judge.max_requests", "judge.max_tokens", "judge.renew_invalid"),
        *("judge.url_variable", "judge.model_variable", "judge.key_variable"),
    ),
    "user_study": ("user_study.prompts", "user_study.raters"),
    "publication": ("publish.repo", "publish.license"),
    "publish": ("publish.repo", "publish.private"),
}
"""By command, the sections and keys that it takes of the configuration; `model`, `dataset` and `policy` are entries."""
PREFIXES = {"rewards": "reward_"}
"""What precedes a section's keys in the names of options."""


@dataclass(frozen=True)
class Setting:
    """A key of the configuration, such as `training.lora_rank`, as an option of a command."""

    key: str
    schema: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The option's name, with underscores."""
        section, _, leaf = self.key.rpartition(".")
        of, _, split = section.rpartition(".")
        return (f"{split}_" if of == "data.splits" else PREFIXES.get(section, "")) + leaf

    @property
    def cost(self) -> bool:
        """Whether it changes what a job costs and not what it makes."""
        return self.schema.get("cost", False)


@cache
def schema() -> dict[str, Any]:
    """The schema of the configuration."""
    return read_yaml(SCHEMA)


def resolved(part: Mapping[str, Any]) -> Mapping[str, Any]:
    """A part of the schema with what its `$ref` names; keywords beside the `$ref` win."""
    if "$ref" not in part:
        return part
    return resolved(schema()["$defs"][part["$ref"].rpartition("/")[2]]) | dict(part)


def settings(*keys: str) -> Iterator[Setting]:
    """The leaves of the schema under these sections and keys, in its order; `model.` and its like are entries."""
    for key in keys:
        part = {"properties": schema()["$defs"] | schema()["properties"]}
        for name in key.split("."):
            part = resolved(part["properties"][name])
        if "properties" in part:
            yield from settings(*(f"{key}.{name}" for name in part["properties"]))
        else:
            yield Setting(key, part)


def taken_by(command: str) -> type:
    """A dataclass with the settings that the command takes, to be inherited by its arguments."""
    return make_dataclass("Settings", [_field(one) for one in settings(*TAKES[command])], kw_only=True)


def cost_names(command: str) -> set[str]:
    """The names of the command's options that change no result."""
    return {one.name for one in settings(*TAKES[command]) if one.cost}


def options(section: Mapping[str, Any], *, leave_out: tuple[str, ...] = ()) -> str:
    """Values as command-line options, quoted: `{"batch_size": 4}` becomes `--batch-size 4`.

    False and empty ones are left out; what is nested is JSON.
    """
    words = []
    for key, value in section.items():
        name = f"--{key.replace('_', '-')}"
        if key in leave_out or value is None or value == "" or value is False:
            continue
        if value is True:
            words.append(name)
        elif isinstance(value, list):
            words.append(" ".join([name, *map(_word, value)]))
        else:
            word = _word(value)
            words.append(f"{name}={word}" if word.startswith("-") else f"{name} {word}")
    return " ".join(words)


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return shlex.quote(json.dumps(value))
    # argparse takes -5 for a number and -5e-06 for an option
    return shlex.quote(format(Decimal(str(value)), "f") if isinstance(value, float) and value < 0 else str(value))


def _field(one: Setting) -> tuple[str, Any, Any]:
    part = one.schema
    metadata = {"help": " ".join(part.get("description", one.key).split()).replace("%", "%%")}
    kind, read = _kind(part)
    if part.get("type") == "array":
        kind, read = _kind(resolved(part["items"]))
        kind, metadata["nargs"] = list[kind], "*"
    if "enum" in part:
        metadata["choices"] = part["enum"]
    metadata["type"] = read
    if "default" not in part:
        return one.name, kind, field(metadata=metadata)
    if isinstance(part["default"], list | dict):
        return one.name, kind, field(default_factory=lambda: type(part["default"])(part["default"]), metadata=metadata)
    return one.name, kind, field(default=part["default"], metadata=metadata)


def _kind(part: Mapping[str, Any]) -> tuple[Any, Any]:
    """The type of a value, and what reads it from the command line."""
    plain = {"integer": int, "number": float, "string": str, "boolean": bool}
    kind = part.get("type")
    if isinstance(kind, list):  # or null, which no option spells
        (kind,) = (one for one in kind if one != "null")
    if kind in plain:
        return (plain[kind],) * 2
    if kind == "object":
        return dict, json.loads
    if all(isinstance(one, str) for one in part.get("enum", [0])):
        return str, str
    return Any, _number_or_word


def _number_or_word(text: str) -> int | float | str:
    for read in (int, float):
        try:
            if text not in ("inf", "nan"):
                return read(text)
        except ValueError:
            continue
    return text
