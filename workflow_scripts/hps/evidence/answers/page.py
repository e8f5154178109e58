"""The answers of several methods to the same prompts, side by side with their scores: one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hps.data.formats import FORMATS
from hps.evidence.render import world_note
from hps.support.files import stable_hash
from hps.support.html_page import self_contained

if TYPE_CHECKING:
    from hps.data.chat import Message

PROMPTS = 200
"""Prompts of a data set that the page shows at most, drawn by their names alone: more make it slow to open."""
SCORES = {"reward": ("Reward", 1), "true_reward": ("True reward", 1), "harm_score": ("Harm score", -1)}
"""What an answer may be scored by: name for readers, and 1 where more is better, else -1."""
FLAGS = {"harmful": "harmful", "refusal": "refuses"}
"""What may be true of an answer, and how the page says it."""


@dataclass(frozen=True)
class TestSet:
    """A data set's prompts with each method's answers, rows in schema SAMPLES: by method, then by prompt."""

    name: str
    conversations: Mapping[str, Sequence[Message]]
    answers: Mapping[str, Mapping[str, Mapping[str, Any]]]


def to_html(test_sets: Sequence[TestSet], world: str, prompts: int = PROMPTS) -> str:
    """The page. All methods of a test set have answers to the same prompts, of which at most `prompts` are shown."""
    rows = [row for one in test_sets for own in one.answers.values() for row in own.values()]
    scores = [name for name in SCORES if any(row.get(name) is not None for row in rows)]
    items, counts = [], []
    for one in test_sets:
        known = list(next(iter(one.answers.values())))
        chosen = sorted(known, key=lambda prompt_id: stable_hash("answers", one.name, prompt_id))[:prompts]
        title = getattr(FORMATS.get(one.name), "TITLE", one.name)
        items += [_item(one, title, prompt_id, scores) for prompt_id in chosen]
        count = f"all {len(known)}" if len(chosen) == len(known) else f"{len(chosen)} of the {len(known)}"
        counts.append(f"{count} prompts of {title}")
    data = {
        "notes": world_note(world),
        "counts": " and ".join(counts),
        "warn": world != "toy",
        "scores": [{"label": SCORES[name][0], "better": SCORES[name][1]} for name in scores],
        "sets": list(dict.fromkeys(item["set"] for item in items)),
        "items": items,
    }
    return self_contained(Path(__file__).parent, "Read the answers", data)


def _item(of: TestSet, title: str, prompt_id: str, scores: Sequence[str]) -> dict[str, Any]:
    return {
        "set": title,
        "id": prompt_id,
        "turns": [{"role": turn["role"], "content": turn["content"]} for turn in of.conversations[prompt_id]],
        "answers": [_answer(method, own[prompt_id], scores) for method, own in of.answers.items()],
    }


def _answer(method: str, row: Mapping[str, Any], scores: Sequence[str]) -> dict[str, Any]:
    return {
        "method": method.upper(),
        "loss": method.rpartition("-")[2],
        "text": row["response"],
        "cut": row["status"] == "truncated",
        "tokens": row["tokens"],
        "flags": [word for name, word in FLAGS.items() if row.get(name)],
        "scores": [row.get(name) for name in scores],
    }
