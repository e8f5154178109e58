"""Table A: how much of HPS's margin is due to hard sampling, and how much to the weight of the drawn negative.

Eq. 8 lets the drawn negative stand for N = n - 1 of them, which shifts every log-odds by log N. Eq. 10 read literally
(p uniform over the N dispreferred responses, q normalised to 1) gives all negatives together the weight 1, so the drawn
one stands for itself; the authors' released code does that too. The paper never shows sampling and weight apart. Here
the negative is drawn uniformly or hard (the schedule of gamma), is the hardest, or is the response whose reward is
nearest to the mean less two standard deviations; and it stands for 1 or for N.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hps.evidence import render
from hps.evidence.render import Cell, Column, Page, Table, world_note
from hps.evidence.results import csv_text, plain
from hps.evidence.statistics import CONFIDENCE, SCOPE, Estimate
from hps.evidence.table_page import SEEDS, both_pairs, our_cell, resting, seeds_cell, table
from hps.evidence.table_rows import Choices, TableRow, label, paired
from hps.evidence.tables import TableSpec
from hps.runs import SAMPLINGS, Run, parts_of_hps
from hps.support.errors import InputError

READINGS = {"n": ("n - 1", "Eq. 8"), "1": ("1", "Eq. 10 read literally; released code")}
"""N, for readers, and whose reading of the method it is."""
EFFECTS = {
    "hard instead of uniform": (("hard", "{n}"), ("uniform", "{n}")),
    "hardest instead of hard": (("hardest", "{n}"), ("hard", "{n}")),
    "mean - 2 sd instead of uniform": (("mean - 2 sd", "{n}"), ("uniform", "{n}")),
}
"""Effects of the sampling at a given N; that of N at a given sampling is the other kind."""
COLUMNS = ("test_set", "effect", "given", "metric", "mean", "lo", "hi", "prompts")


@dataclass(frozen=True)
class Contrast:
    """What changing one of the two things does to a metric while the other stays: paired over seeds and prompts."""

    test_set: str
    effect: str
    given: str
    estimates: dict[str, Estimate]  # by metric


def contrasts(spec: TableSpec, rows: Sequence[TableRow], choices: Choices, multiplicity: str | int) -> list[Contrast]:
    """Every effect on every test set.

    Raises InputError when a cell was not evaluated: an attribution with holes would compare what is left.
    """
    by_key = {row.key: row for row in rows}
    parameterization = rows[0].evaluations[0].run.parameterization
    settings_of = parts_of_hps(multiplicity)

    def cell(test_set: str, part: tuple[str, str]) -> TableRow:
        key = (test_set, Run("", parameterization, "hps", 0, 0.0, 0, settings_of[part]).row)
        if key not in by_key:
            raise InputError("--evaluations", f"{key[1]} was not evaluated on {test_set}")
        return by_key[key]

    found = []
    for test_set in dict.fromkeys(row.key[0] for row in rows):
        compared = [
            (effect, f"N = {READINGS[n][0]}", (first[0], n), (second[0], n))
            for effect, (first, second) in EFFECTS.items()
            for n in ("1", "n")
        ]
        compared += [
            ("N = n - 1 instead of 1", f"{sampling} negatives", (sampling, "n"), (sampling, "1"))
            for sampling in SAMPLINGS
        ]
        for effect, given, first, second in compared:
            both = (cell(test_set, part).evaluations for part in (first, second))
            found.append(Contrast(test_set, effect, given, paired(*both, spec.metrics, choices)))
    return found


def to_csv(found: Sequence[Contrast]) -> str:
    """One line an effect and metric; columns COLUMNS."""
    return csv_text(
        COLUMNS,
        (
            dict(zip(COLUMNS, (one.test_set, one.effect, one.given, metric, *map(plain, estimate[:4])), strict=True))
            for one in found
            for metric, estimate in one.estimates.items()
        ),
    )


def to_page(
    spec: TableSpec,
    rows: Sequence[TableRow],
    found: Sequence[Contrast],
    choices: Choices,
    multiplicity: str | int,
    world: str,
) -> Page:
    """The cells, the effects with their intervals, and both pairs' margins of the cells."""
    part = {settings: part for part, settings in parts_of_hps(multiplicity).items()}
    metrics = [Column(label(name), numeric=True) for name in spec.metrics]
    cells = []
    for row in rows:
        run = row.evaluations[0].run
        sampling, n = part[run.settings] if run.loss == "hps" else ("worst (BT)", "")
        stands, reading = READINGS.get(n, ("1", ""))
        cells.append(
            [
                Cell(sampling),
                Cell(stands),
                Cell(reading),
                *(our_cell(row, name) for name in spec.metrics),
                seeds_cell(row),
            ]
        )
    effects = [
        [
            *map(Cell, (one.test_set, one.effect, one.given)),
            *(render.interval(*one.estimates[name][:3]) for name in spec.metrics),
        ]
        for one in found
    ]
    run = rows[0].evaluations[0].run
    notes = [
        *world_note(world),
        "The paper shows hard sampling and the weight of the drawn negative only together. N = n - 1 is Eq. 8. N = 1 "
        "is Eq. 10 read literally (p uniform over the n - 1 dispreferred responses, q normalised to 1: all negatives "
        "together weigh 1), and what the released code does. Here sampling and weight are each changed alone. hard: γ "
        "follows the schedule; hardest: always the dispreferred response with the highest reward; uniform: γ = 0; mean "
        "- 2 sd: always the dispreferred response whose reward is nearest to the mean of the n rewards less two "
        "standard deviations.",
        f"n = {run.n}, β = {plain(run.beta)}. Margins: the {choices.pair} pair. In brackets: {CONFIDENCE:.0%} "
        f"interval, in the second table of the paired difference on the seeds of both; {SCOPE}",
        resting(rows),
    ]
    columns = [Column("Negative"), Column("N", numeric=True), Column("Reading"), *metrics, SEEDS]
    named = [Column(name) for name in (spec.label, "Effect of", "Given")]
    tables = [
        table(spec, rows, columns, cells, "Cells"),
        Table([*named, *metrics], effects, "Effects", header=1, block=0),
        both_pairs(spec, rows, choices),
    ]
    return Page(spec.title, tables, notes)
