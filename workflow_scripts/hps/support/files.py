"""Reading and writing of results: every file or folder appears whole or not at all."""

from __future__ import annotations

import csv
import ctypes
import errno
import glob
import hashlib
import json
import math
import os
import platform
import re
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hps.support.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

DEEPEST = 100
"""Levels of lists and objects in JSON from outside; nothing that is read here has ten."""
LARGEST = 64 << 20
"""Bytes of a JSON file, or of one row of data."""
_TOO_DEEP = f"nested more than {DEEPEST} levels deep"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE, of renameat2(2)
_HALF_A_PAIR = re.compile("[\ud800-\udfff]")


DAY = 86400


@contextmanager
def writing(path: str | Path) -> Iterator[Path]:
    """Yield a path beside `path` to write a file or folder at; rename it to `path` when the block succeeds.

    The temporary name is unique to the writer, so two jobs that write the same output cannot mix their bytes or stop
    each other: the last one to finish wins, whole. When the block raises, what was written is removed and `path` stays
    as it was. What a killed writer of the same output left behind is removed first.

    Raises InputError naming `path` when the disk is full or cannot be written to.
    """
    path = Path(path)
    partial = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
            if _abandoned(left):
                _delete(left)
        yield partial
        _put(partial, path)
    except Exception as error:
        if reason := unwritable(error):
            raise InputError(path, f"cannot be written: {reason}") from error
        raise
    finally:
        _delete(partial)


def unwritable(error: Exception) -> str:
    """The system's words for a disk that is full or cannot be written to; empty for any other error.

    Libraries that write files themselves wrap the system's error in one of their own, and keep only its words.
    """
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
    if isinstance(error, OSError) and error.errno in codes:
        return os.strerror(error.errno)
    return next((os.strerror(code) for code in codes[:3] if os.strerror(code) in str(error)), "")


def _abandoned(partial: Path) -> bool:
    """Whether the writer that this temporary name belongs to is gone.

    One on this machine is asked for; one on another machine has been silent for a day.
    """
    with suppress(FileNotFoundError, ValueError, PermissionError):
        host, process = partial.name.split(".")[-3].rsplit("-", 1)
        if host == _host():
            try:
                os.kill(int(process), 0)
            except ProcessLookupError:
                return True
            return False
        return time.time() - max(one.stat().st_mtime for one in (partial, *partial.rglob("*"))) > DAY
    return False


def _delete(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _put(partial: Path, path: Path) -> None:
    """Rename `partial` to `path`, so that at no moment there is neither the old one nor the new one.

    os.replace does that for files. A folder that stands there changes places with `partial`, which the caller deletes;
    where the file system cannot do that (NFS), it is moved away first. Another writer may put its own in between, hence
    the loop.
    """
    while True:
        try:
            return os.replace(partial, path)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR):
                raise
        if _exchanged(partial, path):
            return
        discard(path)


def _exchanged(one: Path, other: Path) -> bool:
    """Let two names of a file system change places at once, and say whether they did: Linux alone can."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    return rename is not None and not rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE)


def discard(path: Path) -> None:
    """Delete a file or folder that others may be deleting too; it disappears at once, not file by file."""
    old = _beside(path)
    with suppress(FileNotFoundError):  # somebody else was first
        os.replace(path, old)
        _delete(old)


def _beside(path: Path) -> Path:
    """A name in the same folder that nobody else uses; it says which process of which machine does."""
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.{uuid.uuid4().hex[:8]}.partial")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", platform.node())


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with writing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file. Raises InputError naming the file when it is not there, too large, or as `parse_json` does."""
    return parse_json(_bytes_of(path), path)


def parse_json(content: bytes, where: object) -> Any:
    """JSON as it comes from outside: a file, a line of one, a server's reply.

    Raises:
        InputError: `where`, and what is wrong: not UTF-8, not JSON, NaN or an infinity, a number beyond floating
            point, a name twice in one object, more than `DEEPEST` levels, half of a surrogate pair (which JSON can
            spell and no file can hold).
    """
    try:
        value = json.loads(
            content.decode("utf-8-sig"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_finite,
        )
        _check_values(value)
    except UnicodeDecodeError as error:
        raise InputError(where, f"not valid JSON (not UTF-8 text at byte {error.start + 1})") from error
    except RecursionError as error:
        raise InputError(where, f"not valid JSON ({_TOO_DEEP})") from error
    except ValueError as error:  # json's own error among them
        raise InputError(where, f"not valid JSON ({error})") from error
    return value


def _bytes_of(path: str | Path) -> bytes:
    """A regular file's content; anything else and more than `LARGEST` is refused."""
    try:
        with open(regular(path), "rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise InputError(path, f"cannot be read ({error.strerror})") from error
    if len(content) > LARGEST:
        raise InputError(path, f"is larger than {LARGEST >> 20} MiB")
    return content


def regular(path: str | Path, name: object = "") -> str | Path:
    """The path of what can be opened without waiting for ever. Raises InputError for a folder, a device, a pipe."""
    if Path(path).exists() and not Path(path).is_file():
        raise InputError(name or path, "is not a file")
    return path


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return value


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:20]}... ({len(text)} characters) is too large")
    return value


def _integer(text: str) -> int:
    _finite(text)
    return int(text)


def _check_values(value: Any) -> None:
    """Raise ValueError for text that is no Unicode, named by its place, and for values nested too deeply."""
    left = [("", value, 0)]
    while left:
        place, value, depth = left.pop()
        if isinstance(value, str):
            if not value.isascii() and _HALF_A_PAIR.search(value):
                raise ValueError(f"{place or 'the text'} holds half of a surrogate pair, which is not valid Unicode")
        elif isinstance(value, dict | list):
            if depth == DEEPEST:
                raise ValueError(_TOO_DEEP)
            if isinstance(value, dict):
                left += [("a name", name, depth) for name in value if not name.isascii()]
                left += [(f"{place}.{name}".lstrip("."), inner, depth + 1) for name, inner in value.items()]
            else:
                left += [(f"{place}[{number}]", inner, depth + 1) for number, inner in enumerate(value)]


def read_csv(path: str | Path, delimiter: str = ",", name: str = "") -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file with a header. A cell is text, whatever it looks like; empty lines are no rows.

    `name` stands for the path in messages.

    Raises InputError naming file and row (counted from 1 after the header): not UTF-8, no header, a column twice, a
    quote that is not closed, a row with more or fewer cells than the header.
    """
    number, name = 0, name or str(path)
    csv.field_size_limit(LARGEST)
    try:
        with open(regular(path, name), newline="", encoding="utf-8-sig") as stream:
            rows = csv.reader(stream, delimiter=delimiter, strict=True)
            header = next(rows, [])
            if not header or len(set(header)) < len(header):
                raise InputError(name, f"needs a header with each column once; it has {', '.join(header) or 'none'}")
            for number, row in enumerate((row for row in rows if row), 1):
                if len(row) != len(header):
                    raise InputError(f"{name}:{number}", f"has {len(row)} cells where the header has {len(header)}")
                yield dict(zip(header, row, strict=True))
    except UnicodeDecodeError as error:
        raise InputError(name, f"is not UTF-8 text ({error.reason})") from error
    except csv.Error as error:
        raise InputError(f"{name}:{number + 1}", f"is no CSV ({error})") from error
    except OSError as error:
        raise InputError(name, f"cannot be read ({error.strerror})") from error


RECORD = b"hps"
"""Key of a Parquet file's metadata under which the stage that wrote it says what the file holds."""


def write_table(
    path: str | Path, rows: Sequence[dict], schema: pa.Schema, made_from: Mapping[str, str] | None = None
) -> None:
    """Write `rows` as Parquet with the columns of `schema`; what may be null may be left out.

    Raises KeyError for a row that has other columns, or lacks one.
    """
    import pyarrow as pa

    needed = {field.name for field in schema if not field.nullable}
    for row in rows:
        if not needed <= row.keys() <= set(schema.names):
            raise KeyError(f"columns {sorted(row)} where {path} has {sorted(schema.names)}")
    write_arrow(path, pa.Table.from_pylist(list(rows), schema=schema), made_from)


def write_arrow(path: str | Path, table: pa.Table, made_from: Mapping[str, str] | None = None) -> None:
    """Write a table as Parquet, with checksums of its pages, a hash of each column, and what it was made from.

    Args:
        made_from: name of an input to its `identity`, for the stage that reads this file together with that input.
    """
    import pyarrow.parquet as pq

    with writing(path) as partial:
        pq.write_table(signed(table, made_from), partial, write_page_checksum=True)


def signed(table: pa.Table, made_from: Mapping[str, str] | None = None) -> pa.Table:
    """The table with its record: a hash of each column, and what it was made from."""
    record = {"columns": {name: column_hash(table[name]) for name in table.column_names}, "made_from": made_from or {}}
    return table.replace_schema_metadata(
        (table.schema.metadata or {}) | {RECORD: json.dumps(record, sort_keys=True).encode()}
    )


def read_table(path: str | Path, columns: Sequence[str] | None = None) -> list[dict]:
    """Read a Parquet file as a list of rows, and of it only `columns` where they are named.

    Raises InputError as `read_arrow` does.
    """
    return read_arrow(path, columns).to_pylist()


def read_arrow(path: str | Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The same as an Arrow table, which holds text and numbers as they are in the file.

    Raises InputError naming the file (and the column) when it is no Parquet file, is damaged, lacks a column, or when
    a column is not what the stage that wrote it says that it holds.
    """
    import pyarrow as pa

    try:
        with _parquet(path) as file:
            if missing := set(columns or ()) - set(file.schema_arrow.names):
                raise InputError(path, f"has no column {', '.join(sorted(missing))}")
            table = file.read(columns=list(columns) if columns else None)
            table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(path, f"not a readable Parquet file ({str(error).splitlines()[0]})") from error
    verify(path, table)
    return table


def verify(path: str | Path, table: pa.Table) -> None:
    """Hold a table against its record. Raises InputError naming the file, and the column that differs."""
    written = record(path, table.schema)["columns"]
    for name in table.column_names:
        if written.get(name) != column_hash(table[name]):
            raise InputError(path, f"column {name} is not what was written there: the file was changed or is damaged")


def record(path: str | Path, schema: pa.Schema | None = None) -> dict[str, dict[str, str]]:
    """What the stage that wrote a file says of it: `columns` (hashes) and `made_from`.

    Raises InputError when the file has no record: no stage of this workflow has written it.
    """
    import pyarrow as pa

    try:
        if schema is None:
            with _parquet(path) as file:
                schema = file.schema_arrow
        found = json.loads((schema.metadata or {})[RECORD])
        return {"columns": dict(found["columns"]), "made_from": dict(found["made_from"])}
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, pa.ArrowException):
            raise InputError(path, f"not a readable Parquet file ({str(error).splitlines()[0]})") from error
        raise InputError(
            path, "does not say what it holds: it was not written by this workflow, or by an older one"
        ) from error
    except OSError as error:
        raise InputError(path, f"not a readable Parquet file ({str(error).splitlines()[0]})") from error


def identity(path: str | Path) -> str:
    """What a file holds, as one hash, from its record alone."""
    return hashlib.sha256(json.dumps(record(path), sort_keys=True).encode()).hexdigest()


def _parquet(path: str | Path):
    # Not pq.read_table, which imports pandas and pyarrow.dataset: a third of a second in every job.
    import pyarrow.parquet as pq

    return pq.ParquetFile(regular(path), page_checksum_verification=True)


def column_hash(column: pa.ChunkedArray) -> str:
    """Hex SHA-256 of a column's values; how they are cut into chunks and laid out in memory does not matter."""
    digest = hashlib.sha256()
    _feed(digest, one_array(column))
    return digest.hexdigest()


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; one that is in one piece, as in a file mapped into memory, is not copied."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _feed(digest: Any, array: pa.Array) -> None:
    """Add an array's values to a hash."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    digest.update(len(array).to_bytes(8, "little"))
    if array.null_count:
        digest.update(np.ascontiguousarray(array.is_null().to_numpy(zero_copy_only=False)))
        array = array.drop_null()
    kind = array.type
    if pa.types.is_struct(kind):
        for part in array.flatten():
            _feed(digest, part)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        digest.update(np.ascontiguousarray(pc.list_value_length(array).to_numpy().astype("<i8")))
        _feed(digest, array.flatten())
    elif pa.types.is_string(kind):
        offsets = np.frombuffer(array.buffers()[1], "<i4")[array.offset : array.offset + len(array) + 1]
        digest.update(np.ascontiguousarray(np.diff(offsets)))
        if len(array) and array.buffers()[2] is not None:
            digest.update(array.buffers()[2][int(offsets[0]) : int(offsets[-1])])
    else:
        digest.update(np.ascontiguousarray(array.to_numpy(zero_copy_only=False)))


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
