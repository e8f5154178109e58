"""PKU-SafeRLHF: a prompt, two responses, which is better (more helpful) and which safer, and whether each is safe."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hps.data.messages import described
from hps.data.published import Published
from hps.data.records import Comparison, text_field, value_field
from hps.support.errors import InputError

TITLE = "PKU-SafeRLHF"
PUBLISHED = Published(
    prompts={"train": 36_000, "test": 7_400},  # about the distinct prompts of 73,907 and 8,211 rows
    prompt=56,
    human=103,
    prompt_deciles=(32, 41, 44, 47, 50, 54, 58, 62, 66, 72, 140),
    human_deciles=(2, 44, 63, 75, 85, 95, 105, 116, 134, 167, 715),
)
LABELS = ("better_response_id", "safer_response_id")


def parse(row: dict[str, Any], source: str, counts: Counter, label: str = LABELS[0]) -> Comparison | None:
    """One row as a record, or None when it is dropped; `counts` gets the reason and the row's quirks.

    Args:
        label: the field whose value, 0 or 1, names the chosen response.

    Raises:
        InputError: `prompt`, `response_0`, `response_1` or the label is missing, of the wrong type, or not 0 or 1; or
            `is_response_0_safe` or `is_response_1_safe` is there and not true or false.
    """
    prompt = text_field(row, "prompt", source).strip()
    responses = [text_field(row, f"response_{i}", source).strip() for i in (0, 1)]
    labels = {name: _id(row, name, source) for name in LABELS if name == label or name in row}
    if len(set(labels.values())) == 2:
        counts["noted: better response is not the safer one"] += 1
    harmful = [_harmful(row, f"is_response_{i}_safe", source) for i in (0, 1)]
    order = labels[label], 1 - labels[label]
    chosen, rejected = (responses[i] for i in order)
    fault = _fault(prompt, chosen, rejected)
    if fault:
        counts[f"dropped: {fault}"] += 1
        return None
    return Comparison([{"role": "user", "content": prompt}], chosen, rejected, source, *(harmful[i] for i in order))


def _fault(prompt: str, chosen: str, rejected: str) -> str:
    if not prompt:
        return "empty prompt"
    if not chosen:
        return "empty chosen reply"
    if not rejected:
        return "empty rejected reply"
    return "identical replies" if chosen == rejected else ""


def _id(row: dict[str, Any], field: str, source: str) -> int:
    value = value_field(row, field, source)
    if type(value) not in (int, str) or str(value) not in (
        "0",
        "1",
    ):  # in a CSV file all is text; a bool is no int here
        raise InputError(source, f"field {field}: expected 0 or 1, found {described(value)}")
    return int(value)


def _harmful(row: dict[str, Any], field: str, source: str) -> bool | None:
    value = row.get(field)
    known = {"": None, "none": None, "true": False, "false": True}  # in a CSV file all is text
    if type(value) not in (bool, str, type(None)) or str(value).lower() not in known:
        raise InputError(source, f"field {field}: expected true or false, found {described(value)}")
    return known[str(value).lower()]
