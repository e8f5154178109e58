"""A table for readers: ours with intervals beside the paper's, and the notes one needs to read it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np

from hps.evidence import render
from hps.evidence.metrics import METRICS, VARIANTS
from hps.evidence.paper import ROUNDING, read_table
from hps.evidence.render import Cell, Column, Page, Table, world_note
from hps.evidence.results import Evaluation, plain
from hps.evidence.statistics import CONFIDENCE, SCOPE
from hps.evidence.table_rows import DIFFERENCE, Choices, TableRow, label
from hps.evidence.tables import NAMES, TableSpec

MARGINS = ("rm_dpo", "rm_rdpo")
SEEDS = Column("Seeds", numeric=True)
Printed = Mapping[tuple, Mapping[str, float]]
"""The paper's rows by their keys, each a value by metric; empty where the paper has no such table."""


def to_page(spec: TableSpec, rows: Sequence[TableRow], choices: Choices, folder: str, world: str = "") -> Page:
    """Ours beside the paper's (from its `folder`), then the margins on either pair, then every further metric."""
    paper = read_table(spec, folder) if spec.paper else {}
    marks = {(row.key, name): direction(row, name, paper) for row in rows for name in spec.metrics}
    columns = []
    for name in spec.metrics:
        columns += [Column(side, label(name), numeric=True) for side in (("ours", "paper") if paper else ("ours",))]
    body = []
    for row in rows:
        cells = []
        for name in spec.metrics:
            ours = our_cell(row, name)
            cells.append(Cell(f"{marks[row.key, name] or ''} {ours.text}".strip(), ours.detail))
            if paper:
                cells.append(Cell(render.number(paper[row.key][name] if row.key in paper else math.nan)))
        body.append([*cells, Cell(str(len(row.evaluations[0].prompt_ids))), seeds_cell(row)])
    notes = [*world_note(world), *_notes(spec, rows, choices)]
    if paper:
        absent = len(paper.keys() - {row.key for row in rows})
        notes.append(f"Not run: {absent} of the paper's {len(paper)} rows. –: no value.")
    further = [name for name in METRICS if name not in (*spec.metrics, *MARGINS)]
    tables = [
        table(spec, rows, [*columns, Column("Prompts", numeric=True), SEEDS], body),
        both_pairs(spec, rows, choices),
        measured(spec, rows, further, f"Further metrics ({choices.pair} pair)"),
    ]
    return Page(spec.title, tables, notes, _legend(spec, rows, marks))


def table(
    spec: TableSpec,
    rows: Iterable[TableRow],
    columns: Sequence[Column],
    body: Iterable[Sequence[Cell]],
    title: str = "",
) -> Table:
    """`columns` and `body` behind the columns that name the rows."""
    named = [Column(spec.label, numeric=spec.varies in ("n", "beta")), Column(NAMES["method"])]
    lines = [[Cell(plain(row.key[0])), method_cell(row), *cells] for row, cells in zip(rows, body, strict=True)]
    return Table([*named, *columns], lines, title, header=1, block=0)


def measured(spec: TableSpec, rows: Sequence[TableRow], names: Sequence[str], title: str) -> Table:
    """What was measured, without a paper's column; metrics of which no row has a value are left out."""
    names = [name for name in names if _known(rows, name)]
    columns = [Column(label(name), numeric=True) for name in names]
    return table(spec, rows, columns, ([our_cell(row, name) for name in names] for row in rows), title)


def _known(rows: Sequence[TableRow], name: str) -> bool:
    return any(not math.isnan(row.estimates[name].mean) for row in rows)


def both_pairs(spec: TableSpec, rows: Sequence[TableRow], choices: Choices) -> Table:
    """RM_DPO and RM_R-DPO on the configured pair and on the other."""
    pairs = sorted(VARIANTS["margin_pair"], key=lambda pair: pair != choices.pair)
    names = [f"{name}_{pair}" for name, pair in product(MARGINS, pairs)]
    return measured(spec, rows, names, "Margins on either pair")


def method_cell(row: TableRow) -> Cell:
    """The method; smaller, its run's own settings, and how many responses its loss saw where those were not all n."""
    method, *settings = row.key[1].split(" ")
    return Cell(method.upper(), ", ".join([*(one.replace("~", " ") for one in settings), *filter(None, [told(row)])]))


def seeds_cell(row: TableRow) -> Cell:
    """How many training seeds a row has (one without a run of ours: seeds that it was sampled with); smaller, which."""
    return Cell(str(len(row.evaluations)), f"seed {row.seeds.replace(' ', ', ')}")


def told(row: TableRow) -> str:
    """How many responses the row's loss saw, where those were not all n."""
    return row.evaluations[0].told


def our_cell(row: TableRow, name: str) -> Cell:
    """Mean and interval."""
    return render.interval(*row.estimates[name][:3])


def direction(row: TableRow, metric: str, paper: Printed) -> str | None:
    """Mark of a cell: whether the row's loss minus BT in `metric` has the sign it has in the paper ("" if so).

    `▼` when it has not, `▽` when it has not but our interval contains 0; None where there is nothing to compare, as
    where the paper's two numbers are the same within rounding.
    """
    run, block, difference = row.evaluations[0].run, row.key[0], DIFFERENCE.format(metric)
    if run is None or run.loss == "bt" or difference not in row.estimates:
        return None
    ours = row.estimates[difference]
    method, base = paper.get(row.key), paper.get((block, f"{run.parameterization}-bt"))
    theirs = method[metric] - base[metric] if method and base else math.nan
    if math.isnan(ours.mean) or math.isnan(theirs) or abs(theirs) <= 2 * ROUNDING + 1e-9:
        return None
    if np.sign(ours.mean) == np.sign(theirs):
        return ""
    return "▼" if ours.lo > 0 or ours.hi < 0 else "▽"


def _legend(spec: TableSpec, rows: Sequence[TableRow], marks: Mapping[tuple, str | None]) -> list[str]:
    """What the marks mean, and how often the directions agree."""
    counts = []
    losses = {row.key: row.evaluations[0].run.loss for row in rows if row.evaluations[0].run}
    for loss, metric in product(dict.fromkeys(losses.values()), spec.metrics):
        compared = [mark for (key, name), mark in marks.items() if name == metric and losses.get(key) == loss]
        compared = [mark for mark in compared if mark is not None]
        if compared:
            counts.append(f"{loss.upper()} in {METRICS[metric].label} {compared.count('')} of {len(compared)}")
    if not counts:
        return []
    return [
        "▼ marks a cell whose difference to BT (same parameterization, on the seeds of both) has the other direction "
        "than in the paper; ▽ the same, but the interval of our paired difference contains 0. Not marked where the "
        "paper's two numbers are equal within rounding. The same direction as in the paper: "
        f"{'; '.join(counts)}."
    ]


def _notes(spec: TableSpec, rows: Sequence[TableRow], choices: Choices) -> list[str]:
    evaluations = [evaluation for row in rows for evaluation in row.evaluations]
    runs = [evaluation.run for evaluation in evaluations if evaluation.run]
    where = "another data set than the one" if spec.transfer else "the data set"
    setting = [f"Policies are evaluated on {where} they were trained on."]
    if runs:
        if "trained_on" in spec.common:
            setting.append(f"Trained on {runs[0].dataset}, evaluated on {evaluations[0].test_set}.")
        common = [f"{NAMES[name]} = {plain(getattr(runs[0], name))}" for name in ("n", "beta") if name in spec.common]
        setting.append(f"Ours: {', '.join(common)}; training seeds as each row says.")
    if fewer := {row.key[1] for row in rows if told(row)}:
        setting.append(
            f"{', '.join(sorted(fewer)).upper()} used fewer responses than n, as the rows say: that is another "
            "experiment than that of the methods beside them."
        )
    setting += _of_others(evaluations)
    setting.append(_harm_note(evaluations[0].harm))
    if lacking := [one for name, one in METRICS.items() if one.needs and not _known(rows, name)]:
        setting.append(f"Not known here: {'; '.join(f'{one.label} (needs {one.needs})' for one in lacking)}.")
    signatures = sorted({evaluation.bleu_signature[choices.bleu] for evaluation in evaluations})
    scores = (
        f"RM_DPO: difference of log π/π_ref between the responses of the {choices.pair} pair of a test prompt, without "
        f"β; RM_R-DPO takes 0.01 a token of their length gap off it. BLEU: {choices.bleu} ({'; '.join(signatures)}). "
        f"In brackets: {CONFIDENCE:.0%} interval; {SCOPE}"
    )
    return [" ".join(setting), scores, resting(rows)]


def _of_others(evaluations: Iterable[Evaluation]) -> list[str]:
    """Where the policies that others trained come from."""
    found = {one.method.upper(): one.published for one in evaluations if one.published}
    named = [f"{name} is {facts['repo']} at commit {facts['commit']}" for name, facts in found.items()]
    if not named:
        return []
    return [
        f"Trained by others, on what is not known here, so on every test set, and not part of any claim: "
        f"{'; '.join(named)}."
    ]


def resting(rows: Sequence[TableRow]) -> str:
    """On how many test prompts each metric rests, from the row with the fewest to that with the most."""
    of: dict[str, list[str]] = {}
    margins = (f"{MARGINS[0]}_{pair}" for pair in VARIANTS["margin_pair"])
    for name in (*(name for name in METRICS if name not in MARGINS), *margins):
        counts = [row.estimates[name].prompts for row in rows if row.estimates[name].prompts]
        if counts:
            ends = dict.fromkeys((min(counts), max(counts)))
            of.setdefault(" to ".join(map(str, ends)), []).append(label(name, unit=False))
    return "Test prompts: " + "; ".join(f"{count} for {' · '.join(names)}" for count, names in of.items()) + "."


def _harm_note(known: Mapping[str, Any] | None) -> str:
    """What says which answers are harmful and which refuse, and how good it is."""
    if known and known["source"] == "toy":
        return "Which answers are harmful, and which refuse, the toy world's own rules say."
    refusals = "Refusals are recognised by their opening words."
    if not known:
        return refusals
    of, measured = known.get("repo", f"a model of source {known['source']}"), known.get("metrics", {})
    harmful = f"Harmful answers are those that {of} scores above 0"
    if "base_rate" in measured:
        cell = render.interval(*(measured[f"held_out_accuracy{end}"] for end in ("", "_lo", "_hi")))
        harmful += (
            f"; it is right about {cell.text} {cell.detail} of {measured['held_out_responses']} held-out responses, of "
            f"which {measured['base_rate']:.3f} have the more frequent label"
        )
    return f"{harmful}. {refusals}"
