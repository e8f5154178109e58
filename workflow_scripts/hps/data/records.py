"""The record that every reader gives, and the reading of JSON files that name file, row and field when wrong."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hps.support.errors import InputError
from hps.support.files import LARGEST, parse_json, read_csv

if TYPE_CHECKING:
    from hps.data.chat import Message
    from hps.data.formats import Parser


@dataclass(frozen=True)
class Comparison:
    """One human comparison of two replies."""

    messages: list[Message]
    """The prompt: ends with the user's turn."""
    chosen: str
    rejected: str
    source: str
    """`file:row`, rows counted from 1."""
    chosen_harmful: bool | None = None
    """The data set's own label of the reply; None where it has none."""
    rejected_harmful: bool | None = None

    @cached_property
    def prompt_id(self) -> str:
        return prompt_id(self.messages)


def prompt_id(messages: list[Message]) -> str:
    """The first 16 hex digits of the SHA-256 of the messages as canonical JSON."""
    canonical = json.dumps(messages, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def read(rows: Iterable[tuple[str, dict[str, Any]]], parse: Parser) -> tuple[list[Comparison], Counter]:
    """Read `(source, row)` pairs with a format's parser.

    Returns:
        The records in the order of the rows, and the counts: `rows` = `kept` + every `dropped: <reason>`; each
        `noted: <quirk>` counts rows as they stand in the file, dropped or not.
    """
    counts: Counter = Counter()
    records = []
    for source, row in rows:
        counts["rows"] += 1
        record = parse(row, source, counts)
        if record is not None:
            counts["kept"] += 1
            records.append(record)
    return records, counts


def read_rows(path: str | Path, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield `("path:row", object)` for each row of a file, rows counted from 1.

    Args:
        path: `.jsonl`, an object a line; or `.json`, likewise or as one array of objects; either also with `.gz`. Or
            `.parquet`; or `.csv` with a header, whose cells are all text (`None`, `null`, `4` too).
        name: stands for the path in what is yielded and in messages.

    Raises:
        InputError: no such file, another kind of file, a corrupt or truncated gzip, a row that is not a JSON object or
            that `parse_json` refuses; names file and row.
    """
    path, name, number = Path(path), name or str(path), 0
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if path.suffix in (".parquet", ".csv"):
        yield from _rows_of_table(path, name)
        return
    if suffix not in (".json", ".jsonl"):
        raise InputError(name, "expected a file .json or .jsonl, either also with .gz, .parquet or .csv")
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as stream:
            if suffix == ".json" and stream.peek(1).lstrip()[:1] == b"[":
                rows = iter(parse_json(stream.read(), name))
            else:
                lines = iter(lambda: stream.readline(LARGEST + 1), b"")
                rows = (_row(line, f"{name}:{i}") for i, line in enumerate(lines, 1))
            for number, row in enumerate(rows, 1):
                if not isinstance(row, dict):
                    raise InputError(f"{name}:{number}", f"expected a JSON object, found {type(row).__name__}")
                yield f"{name}:{number}", row
    except EOFError as error:
        raise InputError(f"{name}:{number + 1}", "the gzip file is truncated here") from error
    except (zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{name}:{number + 1}", f"the gzip file is corrupt here ({error})") from error
    except OSError as error:
        raise InputError(name, f"cannot be read ({error.strerror or error})") from error


def _row(line: bytes, source: str) -> Any:
    if len(line) > LARGEST:
        raise InputError(source, f"is longer than {LARGEST >> 20} MiB")
    return parse_json(line, source)


def _rows_of_table(path: Path, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of a CSV file, all text; or of a Parquet file, which says itself what is text and what is a number."""
    rows = read_csv(path, name=name) if path.suffix == ".csv" else _rows_of_parquet(path, name)
    yield from ((f"{name}:{number}", row) for number, row in enumerate(rows, 1))


def _rows_of_parquet(path: Path, name: str) -> Iterator[dict[str, Any]]:
    import datasets  # here, since other files do not need it

    number = 0
    try:
        # Streamed, so that the library keeps no copy of them in its cache.
        rows = datasets.load_dataset("parquet", data_files=str(path), split="train", streaming=True)
        for row in rows:
            yield row
            number += 1
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"{name}:{number + 1}", f"cannot be read ({reason})") from error


def text_field(row: dict[str, Any], field: str, source: str) -> str:
    """A field that must hold text. Raises InputError naming file, row and field."""
    value = value_field(row, field, source)
    if not isinstance(value, str):
        raise InputError(source, f"field {field}: expected text, found {type(value).__name__}")
    return value


def value_field(row: dict[str, Any], field: str, source: str) -> Any:
    """A field that must be there. Raises InputError naming file, row and field."""
    if field not in row:
        raise InputError(source, f"has no field {field}")
    return row[field]
