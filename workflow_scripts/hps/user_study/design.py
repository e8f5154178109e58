"""What each rater sees: which prompts, whose responses, in which order; and the key that says so.

A page names neither method nor data set. Its items are numbered and its responses lettered in the order in which that
rater sees them, which is drawn for each rater and item; `key.json`, which raters do not get, has what they stand for.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from hps.judge.prompt import CRITERIA
from hps.support.errors import InputError
from hps.support.files import read_json, stable_hash

if TYPE_CHECKING:
    from hps.data.chat import Message

SCALE = (1.0, 5.0)
"""App. D.2: from 1.00 to 5.00."""
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FORMAT = 1

__all__ = ["CRITERIA", "FORMAT", "LETTERS", "SCALE", "Key", "StudyItem", "choose", "design", "read_key"]


_TEXT = {"type": "string", "minLength": 1}
_NAME = {"pattern": r"^[A-Za-z0-9_-]+\Z"}  # of a rater, an item: they become names of files
_KEY = Draft202012Validator(
    {
        "type": "object",
        "required": ["format", "study", "methods", "raters"],
        "properties": {
            "format": {"const": FORMAT},
            "study": _TEXT | _NAME,
            "methods": {"type": "array", "minItems": 1, "uniqueItems": True, "items": _TEXT},
            "raters": {
                "type": "object",
                "minProperties": 1,
                "propertyNames": _NAME,
                "additionalProperties": {
                    "type": "object",
                    "minProperties": 1,
                    "propertyNames": _NAME,
                    "additionalProperties": {
                        "type": "object",
                        "required": ["test_set", "prompt_id", "responses"],
                        "properties": {
                            "test_set": _TEXT,
                            "prompt_id": _TEXT,
                            "responses": {"type": "object", "additionalProperties": _TEXT},
                        },
                    },
                },
            },
        },
    }
)


@dataclass(frozen=True)
class StudyItem:
    """A test prompt and the response of each method to it."""

    test_set: str
    prompt_id: str
    conversation: list[Message]
    responses: dict[str, str]  # by method


@dataclass(frozen=True)
class Key:
    """What unblinds a study: for each rater, item and letter the method; for each item its prompt."""

    study: str
    methods: tuple[str, ...]
    raters: dict[str, dict[str, dict[str, Any]]]
    """rater -> item -> {"test_set", "prompt_id", "responses": {letter: method}}."""

    def as_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "study": self.study, "methods": list(self.methods), "raters": self.raters}


def choose(prompt_ids: Sequence[str], prompts: int, seed: int, test_set: str) -> list[str]:
    """`prompts` of a test set's prompts, drawn by seed and prompt alone. Raises InputError when there are too few."""
    if len(prompt_ids) < prompts:
        raise InputError("user_study.prompts", f"{prompts}, but {test_set} was evaluated on {len(prompt_ids)}")
    return sorted(prompt_ids, key=lambda prompt_id: stable_hash(seed, "user study", test_set, prompt_id))[:prompts]


def design(items: Sequence[StudyItem], methods: Sequence[str], raters: int, seed: int) -> tuple[Key, dict[str, dict]]:
    """The key, and for each rater what the page shows (`PAGE_FIELDS` of page.py).

    The order of the items is drawn for each rater, that of the responses for each rater and item. The study's name is
    a hash of everything shown, so that ratings of other pages are recognised.
    """
    pages, keys = {}, {}
    for number in range(1, raters + 1):
        rater = f"rater-{number:02d}"
        order = list(items)
        _shuffle(order, seed, rater)
        shown, known = [], {}
        for place, item in enumerate(order, start=1):
            name = f"item-{place:02d}"
            blinded = list(methods)
            _shuffle(blinded, seed, rater, item.test_set, item.prompt_id)
            letters = dict(zip(LETTERS, blinded, strict=False))
            responses = [{"letter": letter, "text": item.responses[method]} for letter, method in letters.items()]
            turns = [{"role": turn["role"], "content": turn["content"]} for turn in item.conversation]
            shown.append({"item": name, "conversation": turns, "responses": responses})
            known[name] = {"test_set": item.test_set, "prompt_id": item.prompt_id, "responses": letters}
        pages[rater] = {"rater": rater, "items": shown}
        keys[rater] = known
    text = json.dumps([pages, keys, list(methods)], sort_keys=True)
    study = hashlib.sha256(text.encode()).hexdigest()[:12]
    return Key(study, tuple(methods), keys), {rater: {"study": study} | page for rater, page in pages.items()}


def read_key(path: str | Path) -> Key:
    """Read a key.json. Raises InputError naming the file, and the field that is missing or wrong."""
    value = read_json(path)
    if error := best_match(_KEY.iter_errors(value)):
        where = ".".join(map(str, error.absolute_path))
        raise InputError(path, f"is no key of a user study ({f'{where}: ' if where else ''}{error.message[:200]})")
    for rater, items in value["raters"].items():
        for item, shown in items.items():
            if sorted(shown["responses"].values()) != sorted(value["methods"]):
                what = f"is no key of a user study (raters.{rater}.{item}.responses: not one of each of the methods)"
                raise InputError(path, what)
    return Key(value["study"], tuple(value["methods"]), value["raters"])


def _shuffle(values: list, *parts: object) -> None:
    random.Random(stable_hash("user study", *parts)).shuffle(values)
