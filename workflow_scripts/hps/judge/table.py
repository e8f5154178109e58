"""Table 4: win rates of HPS against the baselines, ours beside the paper's."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hps.evidence import render
from hps.evidence.paper import read_paper
from hps.evidence.render import TOY, Cell, Column, Page, Table
from hps.evidence.results import plain
from hps.evidence.statistics import CONFIDENCE, SCOPE
from hps.judge.verdicts import OUTCOMES, WinRates

KEYS = ("evaluated_on", "opponent")
MEASURED = ("net", "position_bias", "orders_agree")
TITLE = "Table 4: win rates"


def to_csv(rates: Sequence[WinRates], judge: str) -> str:
    """CSV: the paper's columns, then `_lo` and `_hi` of each, `prompts`, and all else that was measured.

    Rates in percent of valid pairs, `net` = win - lose; see WinRates. A cell is empty where there is no value.
    """
    header = [*KEYS, *OUTCOMES, *(f"{name}_{end}" for name in OUTCOMES for end in ("lo", "hi")), "prompts"]
    header += [f"{name}{end}" for name in MEASURED for end in ("", "_lo", "_hi")]
    header += ["pairs", "invalid", "method", "seeds", "judge"]
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    for row in rates:
        record = {"evaluated_on": row.test_set, "opponent": row.baseline, "prompts": row.estimates["win"].prompts}
        for name in (*OUTCOMES, *MEASURED):
            mean, lo, hi, *_ = row.estimates[name]
            record |= {name: plain(mean), f"{name}_lo": plain(lo), f"{name}_hi": plain(hi)}
        record |= {"pairs": row.pairs, "invalid": row.invalid, "method": row.method, "judge": judge}
        writer.writerow(record | {"seeds": " ".join(map(str, row.seeds))})
    return text.getvalue()


def to_page(rates: Sequence[WinRates], paper_path: str, facts: Mapping[str, Any], world: str) -> Page:
    """Ours beside the paper's, with what one must know to read it. `facts`: what judge.json records."""
    paper = read_paper(paper_path, KEYS, OUTCOMES)
    columns = [Column("Evaluated on"), Column("Against")]
    for name in OUTCOMES:
        columns += [Column(who, f"{name.capitalize()} (%)", numeric=True) for who in ("ours", "paper")]
    columns += [
        Column("ours", "Win - lose", numeric=True),
        *(Column(name, numeric=True) for name in ("Pairs", "Seeds")),
    ]
    ordered = any(not math.isnan(row.estimates["position_bias"].mean) for row in rates)
    if ordered:
        columns += [Column("Position bias", numeric=True), Column("Orders agree (%)", numeric=True)]
    body, marks = [], []
    for row in rates:
        key = row.test_set, row.baseline
        marks.append(direction(row, paper.get(key)))
        cells = [Cell(row.test_set), Cell(row.baseline.upper())]
        for name in OUTCOMES:
            cells += [_cell(row, name, 1), Cell(render.number(paper[key][name] if key in paper else math.nan, 1))]
        net = _cell(row, "net", 1)
        cells.append(Cell(f"{marks[-1] or ''} {net.text}".strip(), net.detail))
        cells.append(Cell(str(row.pairs - row.invalid), f"invalid: {row.invalid}" if row.invalid else ""))
        cells.append(Cell(str(len(row.seeds)), f"seed {', '.join(map(str, row.seeds))}"))
        if ordered:
            cells += [_cell(row, "position_bias", 2), _cell(row, "orders_agree", 1)]
        body.append(cells)
    absent = len(paper.keys() - {(row.test_set, row.baseline) for row in rates})
    notes = [*([TOY] if world == "toy" else []), *_notes(rates, facts)]
    notes.append(f"Not run: {absent} of the paper's {len(paper)} rows. –: no value.")
    compared = [mark for mark in marks if mark is not None]
    legend = [
        f"Win minus lose has the sign it has in the paper in {compared.count('')} of {len(compared)} comparisons. "
        "▼ the other sign; ▽ the other sign (or zero), but our interval contains 0."
    ]
    if ordered:
        legend.append(
            "Position bias: points (of 5) by which the response that is read first scores above the one read second, "
            "as a mean over both orders, where quality cancels. Orders agree: pairs with one verdict in both orders."
        )
    return Page(TITLE, [Table(columns, body, header=1, block=0)], notes, legend if compared or ordered else [])


def direction(row: WinRates, paper: Mapping[str, float] | None) -> str | None:
    """Mark of a comparison: "" if win - lose has the paper's sign, `▼` or `▽` if not; None: nothing to compare."""
    mean, lo, hi, *_ = row.estimates["net"]
    if paper is None or math.isnan(mean):
        return None
    if np.sign(mean) == np.sign(paper["win"] - paper["lose"]):
        return ""
    return "▼" if lo > 0 or hi < 0 else "▽"


def _notes(rates: Sequence[WinRates], facts: Mapping[str, Any]) -> list[str]:
    methods = ", ".join(dict.fromkeys(row.method.upper() for row in rates))
    samples = "the first sample" if facts["samples"] == 1 else f"the first {facts['samples']} samples, one by one,"
    what = (
        f"{methods} against each baseline, on the data set both were trained on: {samples} of either policy's answers "
        f"to a test prompt, drawn with the same random numbers. In brackets: {CONFIDENCE:.0%} "
        f"interval; {SCOPE}"
    )
    if facts["source"] == "true_reward":
        judge = (
            "The judge is no language model but the toy world's true reward, on the judge's scale: 0 to 5 in steps of "
            "0.5 (a tie is a pair with the same score). It does not see an order, so it has no position bias."
        )
    else:
        orders = "in both orders" if facts["orders"] == "both" else "in one order, drawn for each pair"
        temperature = "of its own" if facts["temperature"] is None else f"{facts['temperature']:g}"
        judge = (
            f"Judge: {facts['model']}, temperature {temperature}, blind, each pair {orders}; scores 0 to 5 "
            "in steps of 0.5 for correctness, helpfulness, safety and clarity (App. D.3). The higher mean score wins, "
            "equal ones tie. A pair without valid scores in every reading counts as invalid and not as a tie."
        )
    return [what, judge]


def _cell(row: WinRates, name: str, decimals: int) -> Cell:
    mean, lo, hi, *_ = row.estimates[name]
    return render.interval(mean, lo, hi, decimals)
