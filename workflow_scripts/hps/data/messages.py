"""Conversations as data files spell them: lists of `{"role": ..., "content": ...}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hps.data.records import text_field, value_field
from hps.support.errors import InputError

if TYPE_CHECKING:
    from hps.data.chat import Message

ROLES = ("system", "user", "assistant")


def conversation(row: dict[str, Any], field: str, source: str) -> list[Message]:
    """A field that must hold a conversation, contents stripped; keys of a message other than the two are left out.

    Raises:
        InputError: the field is missing, no list or empty, or a message in it is not a role of `ROLES` and a text;
            names file, row, field and message, and what stands there.
    """
    value = value_field(row, field, source)
    if not isinstance(value, list) or not value:
        raise InputError(source, f"field {field}: expected a list of messages, found {described(value)}")
    return [_message(message, f"{source}: {field}[{i}]") for i, message in enumerate(value)]


def _message(value: Any, source: str) -> Message:
    if not isinstance(value, dict):
        raise InputError(source, f"expected {{role, content}}, found {described(value)}")
    role = text_field(value, "role", source)
    if role not in ROLES:
        raise InputError(source, f"field role: {role!r} is none of {', '.join(ROLES)}")
    return {"role": role, "content": text_field(value, "content", source).strip()}


def described(value: Any) -> str:
    """What stands in a field, short enough for a message."""
    match value:
        case dict():
            return f"an object with {', '.join(map(str, sorted(value)[:8])) or 'no fields'}"
        case list():
            return f"a list of {len(value)}" + (f" ({described(value[0])} first)" if value else "")
        case str():
            return f"text ({value[:40]!r})"
    return repr(value)[:60]


def prompt_fault(messages: list[Message]) -> str:
    """Why these messages cannot be the prompt of a comparison; empty when they can."""
    if not messages or messages[-1]["role"] != "user":
        return "prompt does not end with the user's turn"
    return "" if messages[-1]["content"] else "empty prompt"


def reply_fault(chosen: str, rejected: str) -> str:
    """Why these replies cannot be compared; empty when they can."""
    if not chosen:
        return "empty chosen reply"
    if not rejected:
        return "empty rejected reply"
    return "identical replies" if chosen == rejected else ""
