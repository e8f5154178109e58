"""Write the toy world's data files, in the formats of HH-RLHF and PKU-SafeRLHF.

    python workflow_scripts/toy_data.py --rows-train 5000 --rows-test 400 --seed 0 --out data/toy

writes hh-rlhf/harmless-base/{train,test}.jsonl.gz and pku-saferlhf/{train,test}.jsonl.gz below --out; the same
arguments give the same bytes.
"""

import gzip
import json
import logging
from dataclasses import dataclass
from pathlib import Path

from hps.support import cli
from hps.support.files import writing
from hps.support.settings import taken_by
from hps.toyworld import STYLES, make_rows

FOLDERS = {"hh_rlhf": "hh-rlhf/harmless-base", "pku_saferlhf": "pku-saferlhf"}


@dataclass(kw_only=True)
class Arguments(taken_by("toy_data")):
    out: str = cli.argument("folder to write the files below")


def main(arguments: Arguments) -> None:
    for style in STYLES:
        for part, rows in make_rows(style, arguments.seed, arguments.rows_train, arguments.rows_test).items():
            path = Path(arguments.out) / FOLDERS[style] / f"{part}.jsonl.gz"
            text = "".join(json.dumps(row) + "\n" for row in rows)
            with writing(path) as partial:
                partial.write_bytes(gzip.compress(text.encode(), mtime=0))
            logging.info("%s: %d rows", path, len(rows))


if __name__ == "__main__":
    cli.run(main, Arguments)
