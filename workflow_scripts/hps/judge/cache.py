"""Answers that were paid for, one file each, found again by what was asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hps.support.errors import InputError
from hps.support.files import read_json, write_json

MOST_TOKENS = 10**9
"""Of question and reply together; what an endpoint says beyond it is no count."""


@dataclass(frozen=True)
class Answer:
    """The judge's reply. What is kept and what is read passes the same check: a broken one raises ValueError."""

    reply: str
    tokens: int | None
    """Of question and reply together; None where the endpoint does not say."""
    cut_off: bool = False
    """Whether the limit on its tokens ended the reply."""

    def __post_init__(self) -> None:
        if not isinstance(self.reply, str):
            raise ValueError(f"reply is {type(self.reply).__name__}, not text")
        if self.tokens is not None and (type(self.tokens) is not int or not 0 <= self.tokens <= MOST_TOKENS):
            raise ValueError(f"tokens is {str(self.tokens)[:40]}, neither null nor an integer from 0 to {MOST_TOKENS}")
        if type(self.cut_off) is not bool:
            raise ValueError(f"cut_off is {type(self.cut_off).__name__}, not true or false")


def name_of(request: Mapping[str, Any]) -> str:
    """The hash of a whole request: model, messages and parameters. The key is no part of it."""
    return hashlib.sha256(json.dumps(request, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class Cache:
    """A folder of answers. Each is written whole, so that a killed run leaves nothing but whole answers."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)

    def get(self, request: Mapping[str, Any]) -> Answer | None:
        """The answer to this request, if there is one. Raises InputError naming a file that is no answer."""
        path = self._path(request)
        return _read(path) if path.is_file() else None

    def put(self, request: Mapping[str, Any], answer: Answer) -> None:
        write_json(self._path(request), {"request": dict(request), **asdict(answer)})

    def totals(self) -> tuple[int, int]:
        """How many answers there are, and their tokens together."""
        answers = [_read(path) for path in sorted(self.folder.glob("??/*.json"))]
        return len(answers), sum(answer.tokens or 0 for answer in answers)

    def _path(self, request: Mapping[str, Any]) -> Path:
        name = name_of(request)
        return self.folder / name[:2] / f"{name}.json"


def _read(path: Path) -> Answer:
    stored = read_json(path)
    try:
        return Answer(stored["reply"], stored["tokens"], stored.get("cut_off", False))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        what = f"lacks {error}" if isinstance(error, KeyError) else error
        raise InputError(path, f"is no answer of the judge ({what}); without the file it is asked for anew") from error
