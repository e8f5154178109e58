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


@dataclass(frozen=True)
class Answer:
    """The judge's reply, and the tokens of question and reply together (None where the endpoint does not say)."""

    reply: str
    tokens: int | None


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
    reply, tokens = (stored.get("reply"), stored.get("tokens")) if isinstance(stored, dict) else (None, None)
    if not isinstance(reply, str) or type(tokens) not in (int, type(None)):
        raise InputError(path, "is no answer of the judge: it needs reply (text) and tokens (integer or null)")
    return Answer(reply, tokens)
