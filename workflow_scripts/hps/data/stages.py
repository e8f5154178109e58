"""The files that stages hand on: what is written passes the same check as what is read.

Columns, types, ranges and keys are those of `hps.data.schemas`; that the content is what the stage wrote is up to
`hps.support.files`. Each fault is one line that names file, row (from 0) and column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hps.data.chat import Message
from hps.data.schemas import PAIRS
from hps.support.errors import InputError
from hps.support.files import identity, read_arrow, record, write_arrow


def rows(path: str | Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """The rows of a stage's file. Raises InputError as `table` does."""
    return table(path, schema).to_pylist()


def table(path: str | Path, schema: pa.Schema) -> pa.Table:
    """The same as an Arrow table.

    Raises InputError naming the file, and row and column where there is one: as `files.read_arrow` does, and for
    another type, a null, a number that is not finite or too small, an unknown word, a key that occurs twice.
    """
    found = read_arrow(path, schema.names)
    check(path, found, schema)
    return found


def write(
    path: str | Path, rows: Sequence[dict[str, Any]], schema: pa.Schema, made_from: Mapping[str, str] | None = None
) -> None:
    """Write a stage's rows, once they pass the check of those who read them; what may be null may be left out.

    Args:
        made_from: see `files.write_arrow`.
    """
    made = pa.Table.from_pylist(list(rows), schema=schema)
    check(path, made, schema)
    write_arrow(path, made, made_from)


def check(path: str | Path, found: pa.Table, schema: pa.Schema) -> None:
    """Hold a table against its schema. Raises InputError."""
    for field in schema:
        column = found[field.name].combine_chunks()
        if column.type != field.type:
            raise InputError(path, f"column {field.name} is of type {column.type}, not {field.type}")
        if not field.nullable:
            _refuse(path, field.name, column, column.is_null())
        if pa.types.is_floating(field.type):
            _refuse(path, field.name, column, pc.invert(pc.is_finite(column)), "not a finite number")
        rules = field.metadata or {}
        if b"one_of" in rules:
            words = rules[b"one_of"].decode().split()
            known = pc.is_in(column, pa.array(words))
            _refuse(path, field.name, column, pc.invert(known), f"none of {', '.join(words)}")
        if b"least" in rules:
            least = int(rules[b"least"])
            _refuse(path, field.name, column, pc.less(column, least), f"less than {least}")
    if key := (schema.metadata or {}).get(b"key", b"").decode().split():
        _refuse_repeated(path, found, key)


def _refuse(path: str | Path, name: str, column: pa.Array, wrong: pa.Array, what: str = "missing") -> None:
    wrong = pc.fill_null(wrong, False).to_numpy(zero_copy_only=False)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise InputError(f"{path}: row {row}", f"{name} is {column[row].as_py()!r}, {what}")


def _refuse_repeated(path: str | Path, found: pa.Table, key: list[str]) -> None:
    codes = [pc.rank(found[name].combine_chunks(), tiebreaker="min").to_numpy() for name in key]
    order = np.lexsort(codes[::-1])
    same = np.logical_and.reduce([code[order][1:] == code[order][:-1] for code in codes])
    if same.any():
        row = int(order[int(np.argmax(same)) + 1])
        named = "/".join(str(found[name][row].as_py()) for name in key)
        raise InputError(f"{path}: row {row}", f"{named} occurs twice ({', '.join(key)})")


def made_from(path: str | Path, name: str, expected: str, what: str | Path) -> None:
    """Hold what a file says that it was made from against the input at hand.

    Raises InputError when the file was made from another `name` than `what`, whose identity is `expected`.
    """
    if record(path)["made_from"].get(name) != expected:
        raise InputError(path, f"was not made from {what} as it is now: make it again")


def written_together(path: str | Path, summary: str | Path, expected: object) -> None:
    """Hold a file against its `identity` in the summary that its stage wrote beside it. Raises InputError."""
    if identity(path) != expected:
        raise InputError(path, f"is not what was written together with {summary}: make both again")


def conversations(pairs: str | Path, candidates: Sequence[Mapping], path: str | Path) -> dict[str, list[Message]]:
    """By prompt_id, in the order of `pairs`, the messages of those prompts that the `candidates` in `path` answer.

    Raises InputError as `table` does, when `path` was made from other pairs, and for a candidate of no prompt there.
    """
    made_from(path, "pairs", identity(pairs), pairs)
    messages = {row["prompt_id"]: row["messages"] for row in rows(pairs, PAIRS)}
    answered = {row["prompt_id"] for row in candidates}
    if unknown := answered - messages.keys():
        raise InputError(path, f"prompt {min(unknown)} is not in {pairs}")
    return {prompt_id: own for prompt_id, own in messages.items() if prompt_id in answered}
