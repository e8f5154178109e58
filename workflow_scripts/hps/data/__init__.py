"""The preference data sets: one reader a format, all giving the same records, and the split by prompt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from hps.data import chat_pairs, hh_rlhf, pku_saferlhf, prompt_responses
from hps.data.records import Comparison
from hps.support.errors import InputError

Parser = Callable[[dict[str, Any], str, Counter], Comparison | None]
FORMATS = ("hh_rlhf", "pku_saferlhf", "chat_pairs", "prompt_responses")


def parser(format: str, label: str = "") -> Parser:
    """The function that turns one row of a file of this format into a record; see `hps.data.records.read`.

    Args:
        format: one of FORMATS.
        label: PKU-SafeRLHF's field that names the preferred response, empty for `better_response_id`; or which of the
            two responses is the preferred one (first, second), which prompt_responses cannot do without.

    Raises:
        InputError: an unknown format or label, or a label for a format that has none.
    """
    if format in ("hh_rlhf", "chat_pairs"):
        if label:
            raise InputError("label", f"{format} says which reply is chosen; it has no field {label!r}")
        return hh_rlhf.parse if format == "hh_rlhf" else chat_pairs.parse
    if format == "prompt_responses":
        if label not in prompt_responses.LABELS:
            what = f"{label!r} is none of {', '.join(prompt_responses.LABELS)}"
            raise InputError("label", f"{what}: prompt_responses does not say which response is preferred")
        return partial(prompt_responses.parse, label=label)
    if format == "pku_saferlhf":
        label = label or pku_saferlhf.LABELS[0]
        if label not in pku_saferlhf.LABELS:
            raise InputError("label", f"{label!r} is none of {', '.join(pku_saferlhf.LABELS)}")
        return partial(pku_saferlhf.parse, label=label)
    raise InputError("format", f"{format!r} is none of {', '.join(FORMATS)}")
