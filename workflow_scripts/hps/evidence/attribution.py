"""Table A: how much of HPS's margin is due to hard sampling, and how much to the weight log N of the drawn negative.

Eq. 8 lets the drawn negative stand for N = n - 1 of them, which shifts every log-odds by log N; the authors' released
code has N = 1. The paper never shows one without the other. Here the negative is drawn uniformly, hard (the schedule
of gamma), or is the hardest; and stands for 1 or for N.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hps.evidence import render
from hps.evidence.render import TOY, Cell, Column, Page, Table
from hps.evidence.results import Evaluation
from hps.evidence.statistics import Estimate, paired_difference
from hps.evidence.table_page import LABELS
from hps.evidence.tables import Choices, Layout, Row, build, on_shared_seeds, per_prompt, plain
from hps.runs import Run, parts_of_hps
from hps.support.errors import InputError

LAYOUT = Layout(
    "Table A: where the margin of HPS comes from", "evaluated_on", ("rm_dpo", "reward", "bleu"), False, ("n", "beta")
)
EFFECTS = {
    "hard instead of uniform": (("hard", "{n}"), ("uniform", "{n}")),
    "hardest instead of hard": (("hardest", "{n}"), ("hard", "{n}")),
}
"""Effects of the sampling at a given N; that of N at a given sampling is the other kind."""
COLUMNS = ("test_set", "effect", "given", "metric", "mean", "lo", "hi", "prompts")


@dataclass(frozen=True)
class Contrast:
    """What changing one of the two things does to a metric while the other stays: paired over prompts."""

    test_set: str
    effect: str
    given: str
    estimates: dict[str, Estimate]  # by metric


def rows_of(evaluations: Iterable[Evaluation], choices: Choices) -> list[Row]:
    """The cells as rows of a table like Table 2. Raises InputError as `tables.build` does."""
    return build(LAYOUT, evaluations, choices)


def contrasts(rows: Sequence[Row], choices: Choices, multiplicity: str | int) -> list[Contrast]:
    """Every effect on every test set.

    Raises InputError when a cell was not evaluated: an attribution with holes would compare what is left.
    """
    by_key = {row.key: row for row in rows}
    reward = rows[0].evaluations[0].run.parameterization
    names = parts_of_hps(multiplicity)

    def cell(test_set: str, part: tuple[str, str]) -> Row:
        key = (test_set, Run("", reward, "hps", 0, 0.0, 0, names[part]).row)
        if key not in by_key:
            raise InputError("--evaluations", f"{key[1]} was not evaluated on {test_set}")
        return by_key[key]

    found = []
    for test_set in dict.fromkeys(row.key[0] for row in rows):
        compared = [
            (effect, f"N = {_n(n)}", (first[0], n), (second[0], n))
            for effect, (first, second) in EFFECTS.items()
            for n in ("1", "n")
        ]
        compared += [
            ("N = n - 1 instead of 1", f"{sampling} negatives", (sampling, "n"), (sampling, "1"))
            for sampling in ("uniform", "hard", "hardest")
        ]
        for effect, given, first, second in compared:
            rows_of_both = [cell(test_set, part).evaluations for part in (first, second)]
            a, b = (per_prompt(on_shared_seeds(*pair), choices) for pair in (rows_of_both, rows_of_both[::-1]))
            estimates = {metric: paired_difference(a[metric], b[metric]) for metric in LAYOUT.metrics}
            found.append(Contrast(test_set, effect, given, estimates))
    return found


def to_csv(found: Sequence[Contrast]) -> str:
    """One line an effect and metric; columns COLUMNS."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in found:
        for metric, (mean, lo, hi, prompts, *_) in one.estimates.items():
            writer.writerow([one.test_set, one.effect, one.given, metric, *map(plain, (mean, lo, hi)), prompts])
    return text.getvalue()


def to_page(
    rows: Sequence[Row], found: Sequence[Contrast], choices: Choices, multiplicity: str | int, world: str
) -> Page:
    """The cells, and the effects with their intervals."""
    part = {settings: part for part, settings in parts_of_hps(multiplicity).items()}
    metrics = [Column(LABELS[name], numeric=True) for name in LAYOUT.metrics]
    cells = []
    for row in rows:
        run = row.evaluations[0].run
        sampling, n = part[run.settings] if run.loss == "hps" else ("worst (BT)", "1")
        values = [render.interval(*row.estimates[name][:3]) for name in LAYOUT.metrics]
        cells.append([Cell(row.key[0]), Cell(run.method.upper()), Cell(sampling), Cell(_n(n)), *values])
    effects = [
        [
            Cell(one.test_set),
            Cell(one.effect),
            Cell(one.given),
            *(render.interval(*one.estimates[name][:3]) for name in LAYOUT.metrics),
        ]
        for one in found
    ]
    run = rows[0].evaluations[0].run
    notes = [
        *([TOY] if world == "toy" else []),
        "The paper shows hard sampling and the weight N of the drawn negative (Eq. 8) only together; its released code "
        "has N = 1. Here each is changed alone. hard: gamma follows the schedule; hardest: always the dispreferred "
        "response with the highest reward; uniform: gamma = 0.",
        f"n = {run.n}, beta = {plain(run.beta)}. Margins: the {choices.pair} pair. In brackets: 95 % interval "
        "over seeds and prompts, of the paired difference in the second table.",
    ]
    tables = [
        Table(
            [Column(LABELS["evaluated_on"]), Column("Method"), Column("Negative"), Column("N", numeric=True), *metrics],
            cells,
            "Cells",
            header=1,
            block=0,
        ),
        Table(
            [Column(LABELS["evaluated_on"]), Column("Effect of"), Column("Given"), *metrics],
            effects,
            "Effects",
            header=1,
            block=0,
        ),
    ]
    return Page(LAYOUT.title, tables, notes)


def _n(n: str) -> str:
    return "n - 1" if n == "n" else n
