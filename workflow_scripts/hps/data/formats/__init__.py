"""The formats of preference data: a module each, found by its name. Another format is another module in this folder.

A module has `parse(row, source, counts)`, which turns one row of a file into a record or None, as
`hps.data.records.read` asks. Where a row can be read in several ways, `parse` takes `label` too, one of the module's
`LABELS`; the first is the default, unless the module says `LABEL_NEEDED`. `TITLE` names the data set in figures, and
`PUBLISHED` is what is known of the published files before they are read; only formats of one data set have these two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from hps.data.records import Comparison
from hps.support.errors import InputError

Parser = Callable[[dict[str, Any], str, Counter], Comparison | None]
FORMATS: dict[str, ModuleType] = {
    found.name: import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)
}


def parser(format: str, label: str = "") -> Parser:
    """The function that turns one row of a file of this format into a record; see `hps.data.records.read`.

    Args:
        format: one of FORMATS.
        label: what names the preferred response, where rows can be read in several ways; empty: the format's default.

    Raises:
        InputError: an unknown format or label, no label where one is needed, or one where there is none.
    """
    if format not in FORMATS:
        raise InputError("format", f"{format!r} is none of {', '.join(FORMATS)}")
    module = FORMATS[format]
    labels = getattr(module, "LABELS", ())
    if not labels:
        if label:
            raise InputError("label", f"{format} says which reply is chosen; it has no field {label!r}")
        return module.parse
    if not label and not getattr(module, "LABEL_NEEDED", False):
        label = labels[0]
    if label not in labels:
        raise InputError("label", f"{label!r} is none of {', '.join(labels)}, which say what {format} prefers")
    return partial(module.parse, label=label)
