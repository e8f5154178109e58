"""The tables: an entry of TABLES is all that a table needs, with the paper's CSV if the paper has it.

From the entries follow rules and targets, the paper's numbers, the claims' evidence, figures, the report's captions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hps.evidence.metrics import METRICS
from hps.runs import Run, training_seeds

FOLDER = "paper"
"""Where the paper's numbers lie."""
EVALUATIONS, TRAININGS, JUDGEMENTS, RATINGS = "evaluations", "trainings", "judgements", "ratings"
NAMES = {"n": "n", "beta": "β", "evaluated_on": "Evaluated on", "method": "Method"}
"""How readers see a column that names rows, where not by its own name."""


@dataclass(frozen=True)
class TableSpec:
    """A table: what it shows, of which runs, and what names its rows.

    runs: name of the runs (`hps/workflow`): grid, n, beta, attribution, or that of a configured ablation.
    source: what it is made from: evaluations of those runs, their trainings, judgements or ratings.
    varies: what names its blocks of rows: the test set, `n`, `beta`, or a key of the configuration.
    parts: whether it also has the runs' effects on each other (Table A).
    sft: whether it has rows of the SFT policy.
    paper: the paper's file, none where the paper has no such table; printed_on: its test set where no row names one.
    figure: the figure that shows it, and `drawn` the metrics that it shows.
    """

    name: str
    title: str
    caption: str
    runs: str = "grid"
    source: str = EVALUATIONS
    varies: str = "evaluated_on"
    transfer: bool = False
    sft: bool = False
    parts: bool = False
    metrics: tuple[str, ...] = ("bleu", "reward", "rm_dpo", "rm_rdpo")
    paper: str = ""
    printed_on: str = ""
    figure: str = ""
    drawn: tuple[str, ...] = ("rm_dpo",)

    @property
    def compares(self) -> bool:
        """Whether it compares methods as such (Tables 2 and 5): there, policies that others trained have rows too."""
        return self.source == EVALUATIONS and self.varies == "evaluated_on" and not self.parts

    @property
    def column(self) -> str:
        """The column that names its blocks."""
        return self.varies.rpartition(".")[2]

    @property
    def keys(self) -> tuple[str, str]:
        """The columns that name a row."""
        return self.column, "method"

    @property
    def label(self) -> str:
        """The name of its blocks for readers."""
        return NAMES.get(self.column, self.column)

    @property
    def common(self) -> tuple[str, ...]:
        """What all its runs share."""
        places = () if self.varies == "evaluated_on" else ("trained_on", "evaluated_on")
        return tuple(name for name in (*places, "n", "beta", "settings") if name != self.varies)

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the configuration that it is made with."""
        if self.parts:
            return ("objective.multiplicity",)
        return (self.varies, f"ablations.over.{self.runs}") if "." in self.varies else ()


TABLES = {
    spec.name: spec
    for spec in (
        TableSpec(
            "table2",
            "Table 2: fine-tuning",
            "Fine-tuning: each policy on the test prompts of the data set it was trained on, and the SFT policy before "
            "preference training (Table 2 of the paper).",
            sft=True,
            paper="table2_finetuning.csv",
            figure="margins",
        ),
        TableSpec(
            "table3",
            "Table 3: human study",
            "Quality scores by raters, 1 to 5, who see the responses of several policies to the same prompts without "
            "names, in an order drawn for each rater and prompt (Table 3 of the paper).",
            source=RATINGS,
            paper="table3_human.csv",
        ),
        TableSpec(
            "table4",
            "Table 4: win rates",
            "Win rates of HPS against each baseline on the data set both were trained on, pair by pair of responses to "
            "the same test prompt, scored blind by a judge (Table 4 of the paper).",
            source=JUDGEMENTS,
            paper="table4_win_rate.csv",
        ),
        TableSpec(
            "table5",
            "Table 5: transfer",
            "Transfer: each policy on the test prompts of another data set than the one it was trained on (Table 5 of "
            "the paper).",
            transfer=True,
            paper="table5_transfer.csv",
            figure="margins",
        ),
        TableSpec(
            "table6",
            "Table 6: number of responses, fine-tuning",
            "How the number of responses n that training chooses from matters, on the data set trained on (Table 6 of "
            "the paper).",
            runs="n",
            varies="n",
            paper="table6_responses_finetuning.csv",
            printed_on="hh_rlhf",
            figure="ablation_n",
            drawn=("rm_dpo", "bleu", "reward"),
        ),
        TableSpec(
            "table7",
            "Table 7: number of responses, transfer",
            "How the number of responses n that training chooses from matters, on another data set (Table 7 of the "
            "paper).",
            runs="n",
            varies="n",
            transfer=True,
            paper="table7_responses_transfer.csv",
            printed_on="pku_saferlhf",
            figure="ablation_n",
            drawn=("rm_dpo", "bleu", "reward"),
        ),
        TableSpec(
            "table8",
            "Table 8: strength β, fine-tuning",
            "How the strength β matters, on the data set trained on (Table 8 of the paper). KL is that of policy and "
            "reference on the preferred response of the human pair: exact KL of the next-token distributions, summed.",
            runs="beta",
            varies="beta",
            metrics=("kl", "bleu", "reward", "rm_dpo", "rm_rdpo"),
            paper="table8_beta_finetuning.csv",
            printed_on="hh_rlhf",
            figure="ablation_beta",
            drawn=("kl", "rm_dpo"),
        ),
        TableSpec(
            "table_attribution",
            "Table A: where the margin of HPS comes from",
            "Beyond the paper: HPS taken apart. The negative is drawn uniformly, drawn hard (γ follows its schedule), "
            "the hardest, or the one nearest to mean - 2 standard deviations of the rewards; and it stands for all "
            "n - 1 responses (Eq. 8) or for one (Eq. 10 read literally, and the released code). The effects change one "
            "of the two at a time.",
            runs="attribution",
            parts=True,
            metrics=("rm_dpo", "reward", "bleu"),
        ),
        TableSpec(
            "training_time",
            "Training time by loss",
            "Training time by loss (Sec. 6 of the paper), over all trainings of the main grid. Hours cannot be "
            "compared across machines and models; the ratio to BT can, between losses that used as many responses.",
            source=TRAININGS,
            paper="training_hours.csv",
            figure="training_time",
        ),
    )
}


def tables(over: Mapping[str, Mapping[str, Any]]) -> dict[str, TableSpec]:
    """TABLES, and a table `ablation_<name>` with its figure for each of the configured ablations `over`."""
    ablations = {}
    for name, given in over.items():
        spec = TableSpec(
            f"ablation_{name}",
            f"Ablation over {given['key']}",
            f"Beyond the paper: how {given['key']} matters, on the data set trained on.",
            runs=name,
            varies=given["key"],
            figure=f"ablation_{name}",
        )
        ablations[spec.name] = spec
    return TABLES | ablations


FRONTIER = "frontier"
"""The figure of the fine-tuning tables whose runs differ in how far training moves the policy."""
MOVING = ("evaluated_on", "beta", "training.learning_rate")


def figures(specs: Mapping[str, TableSpec]) -> dict[str, list[str]]:
    """The figures that are drawn from tables, each with its tables."""
    names: dict[str, list[str]] = {}
    for spec in specs.values():
        if spec.figure:
            names.setdefault(spec.figure, []).append(spec.name)
        if spec.source == EVALUATIONS and spec.varies in MOVING and not (spec.transfer or spec.parts):
            names.setdefault(FRONTIER, []).append(spec.name)
    return names


def figure_caption(name: str, specs: Sequence[TableSpec]) -> str:
    """What a figure of these tables shows."""
    if name == FRONTIER:
        return (
            f"Margin, reward and, where it is known, harm against the KL to the reference, of {titles_of(specs)}, with "
            "95 % intervals: losses compared at the same distance from the reference. A marker is a row of a table; "
            "those of a method are connected in the order of their KL, and parameterizations with one each are pale. "
            "Dashed: the policy before training. Filled markers are ours, hollow ones the paper's (Table 8)."
        )
    if specs[0].source == TRAININGS:
        return (
            "Training time by loss as a ratio to BT. Ours (filled) is the time of an optimizer step, the paper's "
            "(hollow) the hours of Sec. 6; bars span one standard deviation between runs to each side."
        )
    metrics = ", ".join(METRICS[name].label for name in specs[0].drawn)
    return (
        f"{metrics} of {titles_of(specs)}, with 95 % intervals. Filled markers are ours, "
        "hollow ones the paper's, on axes of their own, since models and scale differ."
    )


def titles_of(specs: Sequence[TableSpec]) -> str:
    """Titles of tables as a list in words."""
    return " and ".join(spec.title for spec in specs)


def shows(spec: TableSpec, run: Run | None, test_set: str, config: Mapping[str, Any]) -> bool:
    """Whether an evaluation belongs in a table of evaluations.

    Args:
        config: its values by dotted key.
    """
    if spec.source != EVALUATIONS or run is None:
        return spec.sft
    own = {"n": run.n, "beta": run.beta, "settings": {key for key, _ in run.settings} - {spec.varies}}
    grid = {"n": config["grid.n"], "beta": config["objective.beta"], "settings": set()}
    ablates = spec.varies != "evaluated_on"
    return (
        (run.dataset != test_set) == spec.transfer
        and not (ablates and run.dataset != config["ablations.dataset"])
        and run.seed in training_seeds(config, "ablations" if ablates else run.method)
        and all(own[name] == value for name, value in grid.items() if name != spec.varies)
    )
