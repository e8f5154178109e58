"""A table for readers: ours with intervals beside the paper's, and the notes one needs to read it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hps import render
from hps.paper import read_paper
from hps.render import Cell, Column, Page, Table
from hps.statistics import CONFIDENCE
from hps.tables import DIFFERENCE, Choices, Layout, Row, plain

TOY = (
    "These are results of a toy world (small models trained from scratch on synthetic text), not of the paper's models "
    "and data: only directions and orders can be compared with the paper, not values."
)
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
    marks = {row.key: direction(row, paper) for row in rows}
    body = []
    for row in rows:
        cells = [Cell(plain(row.key[0])), Cell(row.key[1].upper())]
        for name in layout.metrics:
            ours = _our_cell(row, name)
            mark = marks[row.key] or "" if name == "rm_dpo" else ""
            cells += [Cell(f"{mark} {ours.text}".strip(), ours.detail), _paper_cell(paper, row.key, name)]
        if known:
            cells.append(_our_cell(row, TRUE_REWARD))
        used = row.estimates["rm_dpo"].prompts
        prompts = len(row.evaluations[0].prompt_ids)
        cells.append(Cell(str(prompts), f"margins: {used}" if 0 < used < prompts else ""))
        body.append(cells)
    absent = len(paper.keys() - marks.keys())
    notes = _notes(layout, rows, choices, world)
    notes.append(f"Not run: {absent} of the paper's {len(paper)} rows. –: no value.")
    compared = [mark for mark in marks.values() if mark is not None]
    legend = [
        f"HPS against BT in RM_DPO: the same direction as in the paper in {compared.count('')} of {len(compared)} "
        "comparisons. ▼ the other direction; ▽ the other direction, but the interval of our paired difference "
        "contains 0."
    ]
    table = Table(columns, body, header=1, block=0)
    return Page(layout.title, [table], notes, legend if compared else [])


def direction(row: Row, paper: dict[tuple, dict[str, float]]) -> str | None:
    """Mark of a row of HPS: whether HPS minus BT in RM_DPO has the sign it has in the paper ("" if so).

    `▼` when it has not, `▽` when it has not but our interval contains 0; None where there is nothing to compare.
    """
    run, block = row.evaluations[0].run, row.key[0]
    if run is None or run.loss != "hps" or DIFFERENCE not in row.estimates:
        return None
    ours = row.estimates[DIFFERENCE]
    method, base = paper.get(row.key), paper.get((block, f"{run.reward}-bt"))
    theirs = method["rm_dpo"] - base["rm_dpo"] if method and base else math.nan
    if math.isnan(ours.mean) or math.isnan(theirs):
        return None
    if np.sign(ours.mean) == np.sign(theirs):
        return ""
    return "▼" if ours.lo > 0 or ours.hi < 0 else "▽"


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
        f"In brackets: {CONFIDENCE:.0%} percentile bootstrap interval over prompts, {choices.resamples} resamples."
    )
    return [*([TOY] if world == "toy" else []), " ".join(setting), scores]


def _our_cell(row: Row, name: str) -> Cell:
    mean, lo, hi, _ = row.estimates[name]
    return render.interval(mean, lo, hi)


def _paper_cell(paper: dict[tuple, dict[str, float]], key: tuple, name: str) -> Cell:
    return Cell(render.number(paper[key][name] if key in paper else math.nan))
