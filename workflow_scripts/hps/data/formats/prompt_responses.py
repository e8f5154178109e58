"""A prompt as a list of messages, and two responses as text; nothing in a row says which one people preferred.

The released code of the paper reads its prompt sets so (gen_hf2.py takes `prompt` through the chat template and puts
the generated responses behind those in `responses`). Whoever uses the format says which of the two is the preferred.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hps.data.messages import conversation, described, prompt_fault, reply_fault
from hps.data.records import Comparison, text_field
from hps.support.errors import InputError

LABELS = ("first", "second")
LABEL_NEEDED = True


def parse(row: dict[str, Any], source: str, counts: Counter, label: str) -> Comparison | None:
    """One row as a record, or None when it is dropped; `counts` gets the reason.

    Args:
        label: which of the two responses is the chosen one, of `LABELS`.

    Raises:
        InputError: the row is not of this format; names what it has instead.
    """
    if not {"prompt", "responses"} <= row.keys():
        raise InputError(source, f"expected prompt and responses, found {described(row)}")
    messages = conversation(row, "prompt", source)
    responses = row["responses"]
    if not isinstance(responses, list) or len(responses) != 2:
        raise InputError(source, f"field responses: expected a list of two texts, found {described(responses)}")
    texts = [
        text_field({f"responses[{i}]": text}, f"responses[{i}]", source).strip() for i, text in enumerate(responses)
    ]
    chosen, rejected = texts if label == LABELS[0] else reversed(texts)
    fault = prompt_fault(messages) or reply_fault(chosen, rejected)
    if fault:
        counts[f"dropped: {fault}"] += 1
        return None
    return Comparison(messages, chosen, rejected, source)
