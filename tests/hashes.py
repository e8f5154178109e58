"""The hashes of what a run made: every adapter, table and parquet file, one line each, in the order of their paths.

    python tests/hashes.py results/tiny > after.txt

A change that moves code and no numbers leaves them as they are: run the cut-down DAG (`--configfile tests/smoke.yaml`)
before and after it, and compare. Times differ from run to run, so tables of time are left out, and of the other tables
those columns.
"""

import csv
import hashlib
import io
import sys
from pathlib import Path

PATTERNS = ("**/*.parquet", "**/*.safetensors", "**/*.csv")
TIMED = ("training_time.csv", "claims.csv")
"""Tables whose numbers are seconds, or rest on seconds."""


def content(path: Path) -> bytes:
    """What is hashed: the file's bytes; of a table the columns that are no times."""
    if path.suffix != ".csv":
        return path.read_bytes()
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    kept = [number for number, name in enumerate(rows[0]) if "second" not in name and "hours" not in name]
    return "\n".join(",".join(row[number] for number in kept) for row in rows).encode()


def main(folder: str) -> None:
    root = Path(folder)
    files = {path for pattern in PATTERNS for path in root.glob(pattern)}
    for path in sorted(files):
        if path.name not in TIMED and not {"measured", "checkpoints"} & {*path.parts}:
            print(hashlib.sha256(content(path)).hexdigest(), path.relative_to(root))


if __name__ == "__main__":
    main(sys.argv[1])
