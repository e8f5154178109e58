"""Join the candidates of one split with their rewards, reference log-probs and token ids, once for all trainings.

    python workflow_scripts/examples.py --pairs train.parquet --candidates candidates.1-of-4.parquet ... \\
        --scored scored.1-of-4.parquet ... --reference reference.1-of-4.parquet ... \\
        --prompts prompts.1-of-4.parquet ... --out examples/train

Everything that training and evaluation read goes through here, and is held against everything else.
"""

from dataclasses import dataclass

from hps.data import examples
from hps.support import cli
from hps.support.cli import argument


@dataclass(kw_only=True)
class Arguments:
    pairs: str = argument("prompts (Parquet)")
    candidates: list[str] = argument("candidate responses (Parquet), all shards", [])
    scored: list[str] = argument("rewards of the candidates, all shards", [])
    reference: list[str] = argument("reference log-probs and token ids of the candidates, all shards", [])
    prompts: list[str] = argument("token ids of the prompts, all shards", [])
    out: str = argument("folder")


def main(arguments: Arguments) -> None:
    examples.join(
        arguments.out,
        arguments.pairs,
        arguments.candidates,
        arguments.scored,
        arguments.reference,
        arguments.prompts,
    )


if __name__ == "__main__":
    cli.run(main, Arguments)
