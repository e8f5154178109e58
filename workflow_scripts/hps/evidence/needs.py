"""What each part of the report reads from the configuration: these keys alone, so that no other makes it anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hps.support.errors import InputError
from hps.support.files import parse_json, read_json

NEEDS = {
    "table": ("world", "evaluation.bleu", "evaluation.margin_pair"),
    "figure": ("world",),
    "claims": (
        *("world", "evaluation.bleu", "evaluation.margin_pair"),
        *("claims.alpha", "models.eval_reward.source", "models.policy"),
        *("grid.n", "objective.beta", "ablations.dataset"),
        *("seeds", "seeds_of"),
    ),
    "audit": ("world", "candidates.truncated"),
    "theory": ("theory",),
    "answers": ("world",),
    "cost": ("world",),
}
"""Keys by part; a table or figure of an ablation has further ones (`TableSpec.needs`)."""


def by_key(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted key, sections too: `{"a": {"b": 1}}` gives `a` and `a.b`."""
    found = {}
    for name, value in values.items():
        found[f"{prefix}{name}"] = value
        if isinstance(value, Mapping):
            found |= by_key(value, f"{prefix}{name}.")
    return found


def needed(config: Mapping[str, Any], part: str, further: Iterable[str] = ()) -> dict[str, Any]:
    """What a part needs of the values by dotted key. Raises KeyError where there is none."""
    return {key: config[key] for key in (*NEEDS[part], *further)}


def read_config(given: str | Path) -> dict[str, Any]:
    """Values by dotted key: of a resolved configuration (`config.json`), or of JSON that has what a part needs.

    Raises InputError when it is neither.
    """
    if str(given).startswith("{"):
        return parse_json(str(given).encode(), "--config")
    if not Path(given).is_file():
        raise InputError(given, "missing; `snakemake RESULTS/config.json` writes it")
    resolved = read_json(given)
    if not isinstance(resolved, dict) or not all(isinstance(resolved.get(k), dict) for k in ("values", "origins")):
        raise InputError(given, "is no resolved configuration: it needs the mappings values and origins")
    return by_key(resolved["values"])
