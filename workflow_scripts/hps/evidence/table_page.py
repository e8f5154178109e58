"""A table for readers: ours with intervals beside the paper's, and the notes one needs to read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from hps.evidence import render
from hps.evidence.paper import ROUNDING, read_paper
from hps.evidence.render import Cell, Column, Page, Table, world_note
from hps.evidence.statistics import CONFIDENCE, SCOPE
from hps.evidence.tables import DIFFERENCE, Choices, Layout, Row, plain

TRUE_REWARD = "true_reward"
LABELS = {
    "evaluated_on": "Evaluated on",
    "method": "Method",
    "n": "n",
    "beta": "β",
    "kl": "KL (nats)",
    "bleu": "BLEU",
    "reward": "Reward",
    "rm_dpo": "RM_DPO (nats)",
    "rm_rdpo": "RM_R-DPO (nats)",
    TRUE_REWARD: "True reward",
}


def to_page(layout: Layout, rows: Sequence[Row], choices: Choices, paper_path: str, world: str = "") -> Page:
    """Ours beside the paper's, with what one must know to read it. `world="toy"` says that the models are toys."""
    paper = read_paper(paper_path, layout.keys, layout.metrics)
    columns = [Column(LABELS[layout.varies], numeric=layout.varies != "evaluated_on"), Column(LABELS["method"])]
    for name in layout.metrics:
        columns += [Column("ours", LABELS[name], numeric=True), Column("paper", LABELS[name], numeric=True)]
    known = any(not math.isnan(row.estimates[TRUE_REWARD].mean) for row in rows)
    if known:  # the toy world alone has one, and so has the paper nothing beside it
        columns.append(Column("ours", LABELS[TRUE_REWARD], numeric=True))
    columns.append(Column("Prompts", numeric=True))
    marks = {(row.key, name): direction(row, name, paper) for row in rows for name in layout.metrics}
    body = []
    for row in rows:
        cells = [Cell(plain(row.key[0])), Cell(row.key[1].upper())]
        for name in layout.metrics:
            ours = _our_cell(row, name)
            cells += [
                Cell(f"{marks[row.key, name] or ''} {ours.text}".strip(), ours.detail),
                _paper_cell(paper, row.key, name),
            ]
        if known:
            cells.append(_our_cell(row, TRUE_REWARD))
        used = row.estimates["rm_dpo"].prompts
        prompts = len(row.evaluations[0].prompt_ids)
        cells.append(Cell(str(prompts), f"margins: {used}" if 0 < used < prompts else ""))
        body.append(cells)
    absent = len(paper.keys() - {row.key for row in rows})
    notes = _notes(layout, rows, choices, world)
    notes.append(f"Not run: {absent} of the paper's {len(paper)} rows. –: no value.")
    legend = _legend(layout, rows, marks)
    table = Table(columns, body, header=1, block=0)
    return Page(layout.title, [table], notes, legend)


def direction(row: Row, metric: str, paper: dict[tuple, dict[str, float]]) -> str | None:
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


def _legend(layout: Layout, rows: Sequence[Row], marks: dict[tuple, str | None]) -> list[str]:
    """What the marks mean, and how often the directions agree."""
    counts = []
    losses = {row.key: row.evaluations[0].run.loss for row in rows if row.evaluations[0].run}
    for loss, metric in product(dict.fromkeys(losses.values()), layout.metrics):
        compared = [mark for (key, name), mark in marks.items() if name == metric and losses.get(key) == loss]
        compared = [mark for mark in compared if mark is not None]
        if compared:
            name = LABELS[metric].replace(" (nats)", "")
            counts.append(f"{loss.upper()} in {name} {compared.count('')} of {len(compared)}")
    if not counts:
        return []
    return [
        "▼ marks a cell whose difference to BT (same reward) has the other direction than in the paper; ▽ the same, "
        "but the interval of our paired difference contains 0. Not marked where the paper's two numbers are equal "
        f"within rounding. The same direction as in the paper: {'; '.join(counts)}."
    ]


def _notes(layout: Layout, rows: Sequence[Row], choices: Choices, world: str) -> list[str]:
    evaluations = [evaluation for row in rows for evaluation in row.evaluations]
    runs = [evaluation.run for evaluation in evaluations if evaluation.run]
    where = "another data set than the one" if layout.transfer else "the data set"
    setting = [f"Policies are evaluated on {where} they were trained on."]
    if runs:
        if "trained_on" in layout.common:
            setting.append(f"Trained on {runs[0].dataset}, evaluated on {evaluations[0].test_set}.")
        common = [
            f"{LABELS[name]} = {plain(getattr(runs[0], name))}" for name in ("n", "beta") if name in layout.common
        ]
        seeds = ", ".join(map(str, sorted({run.seed for run in runs})))
        setting.append(f"Ours: {', '.join(common)}, training seeds: {seeds}.")
    signatures = sorted({evaluation.bleu_signature[choices.bleu] for evaluation in evaluations})
    scores = (
        f"Margins: the {choices.pair} pair of a test prompt. BLEU: {choices.bleu} ({'; '.join(signatures)}). "
        f"In brackets: {CONFIDENCE:.0%} interval; {SCOPE}"
    )
    return [*world_note(world), " ".join(setting), scores]


def _our_cell(row: Row, name: str) -> Cell:
    mean, lo, hi, *_ = row.estimates[name]
    return render.interval(mean, lo, hi)


def _paper_cell(paper: dict[tuple, dict[str, float]], key: tuple, name: str) -> Cell:
    return Cell(render.number(paper[key][name] if key in paper else math.nan))
