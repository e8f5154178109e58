"""HH-RLHF (Anthropic): `chosen` and `rejected` are whole dialogues whose turns begin with `Human:` or `Assistant:`.

What the rows of the real files make necessary: the dialogues of a row may disagree before the last turn, a role may
speak twice in a row, replies may be empty, and text inside a turn may itself say `Human:`. Only a marker that starts a
paragraph, after an empty line, begins a turn.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from hps.data.published import Published
from hps.data.records import Comparison, text_field

if TYPE_CHECKING:
    from hps.data.chat import Message

TITLE = "HH-RLHF"
PUBLISHED = Published(
    prompts={"train": 160_800, "test": 8_552},  # rows of its four folders, few of which repeat a prompt
    prompt=149,  # lengths of harmless-base
    human=46,
    prompt_deciles=(33, 40, 46, 71, 98, 122, 149, 178, 219, 300, 880),
    human_deciles=(2, 10, 15, 20, 25, 32, 41, 52, 69, 98, 413),
    turns=4,
)
_MARKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_NAMES = {role: name for name, role in _ROLES.items()}


def turns(dialogue: str) -> list[Message]:
    """The turns of a dialogue, contents stripped; empty when it does not begin with a marker."""
    before, *pieces = _MARKER.split(dialogue)
    if before.strip():
        return []
    return [{"role": _ROLES[pieces[i]], "content": pieces[i + 1].strip()} for i in range(0, len(pieces), 2)]


def render(messages: Sequence[Message]) -> str:
    """A dialogue in HH-RLHF's notation: the inverse of `turns` for stripped contents without markers."""
    return "".join(f"\n\n{_NAMES[message['role']]}: {message['content']}" for message in messages)


def parse(row: dict[str, Any], source: str, counts: Counter) -> Comparison | None:
    """One row as a record, or None when it is dropped; `counts` gets the reason and the row's quirks.

    The last turn is the reply, the turns before it are the prompt. Consecutive turns of one role in the prompt become
    one, since most chat templates know alternating roles only.

    Raises:
        InputError: `chosen` or `rejected` is missing or no text.
    """
    chosen = turns(text_field(row, "chosen", source))
    rejected = turns(text_field(row, "rejected", source))
    _note(chosen, rejected, counts)
    fault = _fault(chosen, rejected)
    if fault:
        counts[f"dropped: {fault}"] += 1
        return None
    return Comparison(_merged(chosen[:-1]), chosen[-1]["content"], rejected[-1]["content"], source)


def _fault(chosen: list[Message], rejected: list[Message]) -> str:
    for dialogue in (chosen, rejected):
        if not dialogue or dialogue[0]["role"] != "user":
            return "does not start with Human's turn"
        if dialogue[-1]["role"] != "assistant":
            return "last turn is not Assistant's"
    if not chosen[-1]["content"]:
        return "empty chosen reply"
    if not rejected[-1]["content"]:
        return "empty rejected reply"
    if chosen[:-1] != rejected[:-1]:
        return "prompts differ"
    if chosen[-2]["role"] != "user":
        return "prompt does not end with Human's turn"
    if chosen[-1] == rejected[-1]:
        return "identical replies"
    return ""


def _note(chosen: list[Message], rejected: list[Message], counts: Counter) -> None:
    both = [dialogue for dialogue in (chosen, rejected) if dialogue]
    if any("Human:" in dialogue[-1]["content"] for dialogue in both):
        counts["noted: reply contains Human:"] += 1
    if any(len(_merged(dialogue)) < len(dialogue) for dialogue in both):
        counts["noted: consecutive turns of one role"] += 1
    if any(sum(1 if turn["role"] == "user" else -1 for turn in dialogue) for dialogue in both):
        counts["noted: Human and Assistant turn counts differ"] += 1
    if any(not turn["content"] for dialogue in both for turn in dialogue[:-1]):
        counts["noted: empty turn in the prompt"] += 1


def _merged(messages: list[Message]) -> list[Message]:
    return [
        {"role": role, "content": "\n\n".join(message["content"] for message in group)}
        for role, group in groupby(messages, key=lambda message: message["role"])
    ]
