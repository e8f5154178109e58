"""The theorems' measurements for readers: a summary beside the bounds, and CSV of every point."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from hps.evidence.render import Cell, Column, Page, Table, interval
from hps.evidence.theory.experiments import Point, Sizes

METHODS = {
    "hps": "HPS, γ = 0",
    "hps_gamma1": "HPS, γ = 1",
    "hps_gamma5": "HPS, γ = 5",
    "pl": "PL",
    "bt": "BT (best, worst)",
    "hps_over_pl": "HPS over PL",
    "same": "policy scores = rewards",
    "other": "policy scores ≠ rewards",
}
SUMMARIES = {
    "exponent_m": ("error against prompts m: exponent", {"hps": "-1/2", "hps_gamma1": "-1/2", "pl": "-1/2"}),
    "exponent_n": ("error against responses n: exponent", {"hps": "1", "hps_gamma1": "1", "pl": "2"}),
    "error_ratio": ("error of HPS / error of PL, geometric mean", {"hps_over_pl": "1/n"}),
    "gap_left": ("gap to the worst-case loss: largest γ over smallest", {"same": "0", "other": "0"}),
    "cosine_at_end": ("cosine with the max-margin direction, norm → ∞", {"hps": "1", "hps_gamma5": "1"}),
}
"""What a summary measures, and what the theorem's bound or limit is by method."""


def to_csv(points: Sequence[Point]) -> str:
    """CSV, a row a point; x is m, n, gamma or a norm, and empty for a summary."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("theorem", "quantity", "method", "x", "value", "value_lo", "value_hi", "units"))
    for point in points:
        numbers = ["" if math.isnan(value) else f"{value:.8g}" for value in (point.x, *point.estimate[:3])]
        writer.writerow((point.theorem, point.quantity, point.method, *numbers, point.estimate.prompts))
    return text.getvalue()


def to_page(points: Sequence[Point], sizes: Sizes) -> Page:
    """The summaries, a row each."""
    columns = [Column("Theorem", numeric=True), Column("Measured"), Column("Method"), Column("Value", numeric=True)]
    columns.append(Column("Bound or limit", numeric=True))
    rows = []
    for point in points:
        if point.quantity in SUMMARIES:
            what, bounds = SUMMARIES[point.quantity]
            mean, lo, hi, *_ = point.estimate
            cells = [Cell(str(point.theorem)), Cell(what), Cell(METHODS[point.method]), interval(mean, lo, hi)]
            rows.append([*cells, Cell(bounds.get(point.method, "–"))])
    notes = [
        "Linear rewards with a known parameter θ*, computed here and nowhere else: no language model is involved, and "
        "the numbers are the same in every preset and world. "
        f"d = {sizes.dimension}, features on the unit sphere, {sizes.repetitions} repetitions.",
    ]
    legend = [
        "Theorem 1: rankings are drawn from the Plackett-Luce model of θ*, and error is |θ̂ - θ*| / |θ*| in the norm "
        "of the data's pairwise differences, √(v'Σv) with Σ the mean of (φ_j - φ_k)(φ_j - φ_k)'. The bounds are n/√m "
        "for HPS and n²/√m for PL. They are upper bounds: which estimator is more accurate does not follow from them. "
        "HPS is taken in expectation over its draw. Only at γ = 0 is its loss a likelihood; at γ = 1 it converges to "
        "another parameter, and its error stops falling with m.",
        "Theorem 2: the worst case puts all weight on the response that the policy scores highest. With the rewards "
        "that weight the negatives equal to the policy's scores, the gap goes to zero as γ grows; with others (cosine "
        "between the two parameters 0.6) a gap stays.",
        "Theorem 3: preferences without noise, so a linear reward separates them; the minimiser as its penalty goes to "
        "zero, against the direction with the largest smallest margin between the best response and all others.",
        "Brackets: 95% interval over repetitions (Theorem 2: over prompts).",
    ]
    return Page("Theorems on linear rewards", [Table(columns, rows, header=1, block=0)], notes, legend)
