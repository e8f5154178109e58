"""Reading and writing of results: every file or folder appears whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hps.support.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder at; rename it to `path` when the block succeeds.

    The temporary name is unique to the writer, so two jobs that write the same output cannot mix their bytes or stop
    each other: the last one to finish wins, whole. When the block raises, what was written is removed and `path` stays
    as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(path)
    try:
        yield partial
        _put(partial, path)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


def _put(partial: Path, path: Path) -> None:
    """Rename `partial` to `path`. A folder that stands there is moved away first: os.replace only replaces files.

    Another writer may put its own in between, hence the loop.
    """
    while True:
        try:
            return os.replace(partial, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
                raise
        discard(path)


def discard(path: Path) -> None:
    """Delete a file or folder that others may be deleting too; it disappears at once, not file by file."""
    old = _beside(path)
    with suppress(FileNotFoundError):  # somebody else was first
        os.replace(path, old)
        if old.is_dir() and not old.is_symlink():
            shutil.rmtree(old)
        else:
            old.unlink()


def _beside(path: Path) -> Path:
    """A name in the same folder that nobody else uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with writing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises InputError naming the file when it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, f"not valid JSON ({error})") from error


def write_table(path: str | Path, rows: Sequence[dict], schema: pa.Schema) -> None:
    """Write `rows` as Parquet with exactly the columns of `schema`; a row with other keys is a KeyError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = schema.names
    for row in rows:
        if row.keys() != set(names):
            raise KeyError(f"columns {sorted(row)} where {path} has {sorted(names)}")
    columns = [pa.array([row[name] for row in rows], schema.field(name).type) for name in names]
    with writing(path) as partial:
        pq.write_table(pa.Table.from_arrays(columns, schema=schema), partial)


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> list[dict]:
    """Read a Parquet file as a list of rows, and of it only `columns` where they are named.

    Raises InputError naming the file (and the missing columns).
    """
    return read_arrow(path, columns).to_pylist()


def read_arrow(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The same as an Arrow table, which holds text and numbers as they are in the file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not pq.read_table, which imports pandas and pyarrow.dataset: a third of a second in every job.
        with pq.ParquetFile(path) as file:
            if missing := set(columns or ()) - set(file.schema_arrow.names):
                raise InputError(path, f"has no column {', '.join(sorted(missing))}")
            return file.read(columns=list(columns) if columns else None)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(path, f"not a readable Parquet file ({str(error).splitlines()[0]})") from error


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stable_hash(*parts: object) -> int:
    """A 63-bit integer that depends only on `parts` (as text): the same on every machine and in every process.

    All seeds are made with it, so that a draw depends on what it is for and not on the order of the work.
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
