"""The conversational preference format of TRL and others: `chosen` and `rejected` are lists of messages.

Either both are whole conversations that share all but the last turn, or they are what follows the list of messages in
`prompt`. Each ends with one turn of the assistant, the reply. What else a row holds is not looked at.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from hps.data.messages import conversation, described, prompt_fault, reply_fault
from hps.data.records import Comparison
from hps.support.errors import InputError

if TYPE_CHECKING:
    from hps.data.chat import Message


def parse(row: dict[str, Any], source: str, counts: Counter) -> Comparison | None:
    """One row as a record, or None when it is dropped; `counts` gets the reason.

    Raises:
        InputError: the row is not of this format; names what it has instead.
    """
    if not {"chosen", "rejected"} <= row.keys():
        raise InputError(source, f"expected chosen and rejected, found {described(row)}")
    prompt = conversation(row, "prompt", source) if row.get("prompt") is not None else []
    chosen = _after(prompt, conversation(row, "chosen", source))
    rejected = _after(prompt, conversation(row, "rejected", source))
    for field, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1]["role"] != "assistant":
            raise InputError(source, f"field {field}: the last turn is not the assistant's but {turns[-1]['role']}'s")
    if len(chosen) == 1 and not prompt:
        raise InputError(source, "there is no prompt: no list of messages in prompt, and no turn before the reply")
    messages, reply, other = prompt + chosen[:-1], chosen[-1]["content"], rejected[-1]["content"]
    fault = "prompts differ" if chosen[:-1] != rejected[:-1] else prompt_fault(messages) or reply_fault(reply, other)
    if fault:
        counts[f"dropped: {fault}"] += 1
        return None
    return Comparison(messages, reply, other, source)


def _after(prompt: list[Message], turns: list[Message]) -> list[Message]:
    """The turns after the prompt, which some files repeat in front of them."""
    repeats = prompt and len(turns) > len(prompt) and turns[: len(prompt)] == prompt
    return turns[len(prompt) :] if repeats else turns
