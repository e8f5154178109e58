"""The files that raters return: read, checked, unblinded; and for the toy world, written by simulated raters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from hps.support.errors import InputError
from hps.support.files import read_json, stable_hash
from hps.user_study.design import CRITERIA, FORMAT, SCALE, Key

_SCORE = {"type": "number", "minimum": SCALE[0], "maximum": SCALE[1]}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["format", "study", "rater", "simulated", "exported", "ratings"],
    "properties": {
        "format": {"const": FORMAT},
        "study": {"type": "string"},
        "rater": {"type": "string"},
        "simulated": {"type": "boolean"},
        "exported": {"type": "string"},
        "ratings": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["item", "response", "scores"],
                "properties": {
                    "item": {"type": "string"},
                    "response": {"type": "string"},
                    "scores": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {name: _SCORE for name in CRITERIA},
                    },
                },
            },
        },
    },
}
"""JSON schema of a returned file. A criterion that was not rated is absent."""

_VALIDATOR = Draft202012Validator(SCHEMA)
SIMULATED_NOISE = 0.5
"""Standard deviation of a simulated rater's error, in points; half of it is that of the rater's own mean."""
TRUE_REWARD_SCALE = (-5.0, 5.0)
"""Where replies of the toy world's grammar lie; stretched onto 1 to 5."""


@dataclass(frozen=True)
class Ratings:
    """All returned ratings. `values[r, p, m, c]` is what rater r gave on prompt p to method m for criterion c.

    (raters, prompts, methods, criteria), NaN where it was not rated; criteria in the order of CRITERIA.
    """

    raters: tuple[str, ...]
    prompts: tuple[tuple[str, str], ...]  # (test set, prompt)
    methods: tuple[str, ...]
    values: np.ndarray
    simulated: bool


def returned_files(folder: str | Path) -> list[Path]:
    """The files that raters returned, in a folder where the key of their pages may lie beside them.

    Raises InputError naming what is there instead: nothing, a folder, or a file whose name does not end in `.json`,
    which would otherwise be left out without a word. Hidden files (an operating system's own) do not count.
    """
    found = sorted(path for path in Path(folder).iterdir() if path.name[0] != "." and path.name != "key.json")
    for path in found:
        if path.suffix != ".json" or not path.is_file():
            raise InputError(path, "is no returned file: those end in .json; rename it, or take it out of the folder")
    if not found:
        raise InputError(folder, "holds no returned files (ratings-*.json)")
    return found


def read_ratings(paths: Sequence[str | Path], key: Key) -> Ratings:
    """Read and unblind returned files.

    Raises InputError naming the file when one is not valid JSON or not of SCHEMA, belongs to another study or to a
    rater, item or response that the key does not know, rates something twice or in finer steps than 0.01, or is a
    second file of a rater; or when simulated and real raters are mixed.
    """
    known = {(item["test_set"], item["prompt_id"]) for items in key.raters.values() for item in items.values()}
    prompts = tuple(sorted(known))
    places = {prompt: number for number, prompt in enumerate(prompts)}
    files: dict[str, Path] = {}
    values, simulated = [], {}
    for path in sorted(map(Path, paths)):
        returned = _read(path, key)
        rater = returned["rater"]
        if rater in files:
            raise InputError(path, f"is of {rater}, as {files[rater].name} is: keep one of them")
        files[rater] = path
        simulated[path.name] = returned["simulated"]
        own = np.full((len(prompts), len(key.methods), len(CRITERIA)), np.nan)
        for row in returned["ratings"]:
            item = key.raters[rater][row["item"]]
            place = places[item["test_set"], item["prompt_id"]]
            method = key.methods.index(item["responses"][row["response"]])
            for number, criterion in enumerate(CRITERIA):
                own[place, method, number] = row["scores"].get(criterion, math.nan)
        values.append(own)
    if len(set(simulated.values())) > 1:
        made_up = next(name for name, is_simulated in simulated.items() if is_simulated)
        raise InputError(made_up, "is of a simulated rater, and other files are not: they cannot be mixed")
    shape = (0, len(prompts), len(key.methods), len(CRITERIA))
    stacked = np.stack(values) if values else np.zeros(shape)
    return Ratings(tuple(files), prompts, key.methods, stacked, any(simulated.values()))


def _read(path: Path, key: Key) -> dict[str, Any]:
    returned = read_json(path)
    error = best_match(_VALIDATOR.iter_errors(returned))
    if error is not None:
        where = ".".join(map(str, error.absolute_path))
        raise InputError(path, f"{where}: {error.message[:200]}" if where else error.message[:200])
    if returned["study"] != key.study:
        raise InputError(path, f"is of study {returned['study']}, and the key is of {key.study}")
    items = key.raters.get(returned["rater"])
    if items is None:
        raise InputError(path, f"rater {returned['rater']!r} is not in the key")
    seen = set()
    for row in returned["ratings"]:
        what = f"{row['item']}, response {row['response']}"
        if row["item"] not in items or row["response"] not in items[row["item"]]["responses"]:
            raise InputError(path, f"{what}: not in the key")
        if what in seen:
            raise InputError(path, f"{what}: rated twice")
        seen.add(what)
        for criterion, score in row["scores"].items():
            if not math.isclose(score * 100, round(score * 100), abs_tol=1e-6):
                raise InputError(path, f"{what}: {criterion} is {score}, not in steps of 0.01")
    return returned


def simulate(key: Key, true_rewards: Mapping[tuple[str, str, str], float], seed: int) -> dict[str, dict]:
    """What simulated raters would return: the true reward on 1 to 5, with noise. One file's content a rater.

    Args:
        true_rewards: of each response, by (test set, prompt, method).
    """
    (low, high), (worst, best) = TRUE_REWARD_SCALE, SCALE
    files = {}
    for rater, items in key.raters.items():
        rng = np.random.default_rng(stable_hash(seed, "simulated rater", rater))
        leaning = rng.normal(0, SIMULATED_NOISE / 2)
        rows = []
        for name, item in items.items():
            for letter, method in item["responses"].items():
                reward = true_rewards[item["test_set"], item["prompt_id"], method]
                quality = worst + (reward - low) / (high - low) * (best - worst) + leaning
                noisy = quality + rng.normal(0, SIMULATED_NOISE, len(CRITERIA))
                scores = {c: round(min(best, max(worst, float(v))), 2) for c, v in zip(CRITERIA, noisy, strict=True)}
                rows.append({"item": name, "response": letter, "scores": scores})
        head = {"format": FORMAT, "study": key.study, "rater": rater, "simulated": True, "exported": "simulated"}
        files[rater] = head | {"ratings": rows}
    return files
