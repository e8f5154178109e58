"""The lengths of human pairs in tokens of the policy's tokenizer; no model runs.

python workflow_scripts/measure_lengths.py --pairs test.parquet --policy models/policy --out lengths.parquet
"""

from dataclasses import dataclass

from hps.data import chat, stages
from hps.data.schemas import LENGTHS, PAIRS
from hps.support import cli


@dataclass(kw_only=True)
class Arguments:
    pairs: str = cli.argument("human pairs (Parquet)")
    policy: str = cli.argument("model folder, of which the tokenizer is used")
    out: str = cli.argument("lengths (Parquet)")


def main(arguments: Arguments) -> None:
    from hps.models.sources import load_tokenizer

    tokenizer = load_tokenizer(arguments.policy)
    rows = [
        {"prompt_id": pair["prompt_id"]}
        | {name: len(chat.response_ids(tokenizer, pair[name])) for name in ("chosen", "rejected")}
        for pair in stages.rows(arguments.pairs, PAIRS)
    ]
    stages.write(arguments.out, rows, LENGTHS)


if __name__ == "__main__":
    cli.run(main, Arguments)
