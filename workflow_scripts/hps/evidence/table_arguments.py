"""The command line that the tables of evaluations share: make_table.py and make_attribution.py."""

# Without `from __future__ import annotations`: the arguments are typed by the annotations (hps/support/cli.py).
from collections.abc import Sequence
from dataclasses import dataclass

from hps.evidence.tables import PAIRS, Choices
from hps.support.cli import argument


@dataclass(kw_only=True)
class TableArguments:
    evaluations: list[str] = argument("folders of evaluation.json and per_prompt.parquet", nargs="+")
    datasets: list[str] = argument("data sets, in row order", nargs="+")
    margin_pair: str = argument("pair of RM_DPO and RM_R-DPO", "human", choices=list(PAIRS))
    bleu: str = argument("BLEU over words or characters", "word", choices=["word", "char"])
    world: str = argument("`toy` says in the notes that the models are toys", "real", choices=["real", "toy"])

    def choices(self, rewards: Sequence[str], losses: Sequence[str]) -> Choices:
        """What the user chose, with these rewards and losses in row order."""
        return Choices(self.datasets, rewards, losses, self.margin_pair, self.bleu)
