"""The length gaps that the paper's two margins imply: one constant a test set, if they belonged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hps.evidence.audit import commonest_gap, distinct
from hps.evidence.figures.style import SETTINGS, draw, legend, name_of
from hps.evidence.paper import PrintedRow
from hps.evidence.render import number
from hps.evidence.statistics import Estimate

LOSSES = ["pl", "bt", "hps"]
PAIR_COLOUR = "#000000"


def implied_gaps(rows: Sequence[PrintedRow], measured: Mapping[str, Mapping[str, Estimate]], world: str) -> Figure:
    """A panel a test set: the implied gap of each of the paper's rows by table, and below the pairs measured here."""
    test_sets = list(dict.fromkeys(row.test_set for row in rows))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(6.8, 0.8 + 3.2 * len(test_sets)), layout="constrained")
        grid = figure.subplots(len(test_sets), 1, sharex=True, squeeze=False)[:, 0]
        for axes, test_set in zip(grid, test_sets, strict=True):
            _panel(axes, [row for row in rows if row.test_set == test_set], measured.get(test_set, {}), world)
            axes.set_title(name_of(test_set))
        grid[-1].set_xlabel(
            "Length gap $|y_1| - |y_2|$ (tokens)\n"
            r"paper: implied by RM$_{\mathrm{DPO}}$ - RM$_{\mathrm{R-DPO}}$"
        )
        legend(figure, LOSSES, hollow=True)
    return figure


def _panel(axes: Axes, rows: Sequence[PrintedRow], measured: Mapping[str, Estimate], world: str) -> None:
    tables = list(dict.fromkeys(row.table for row in rows))
    gap, agreeing = commonest_gap(distinct(rows))
    axes.axvline(gap, color="#555555", linewidth=1, linestyle="--")
    axes.annotate(
        f"{gap:.1f} tokens: {agreeing} of {len(distinct(rows))} rows",
        (gap, 1),
        xycoords=("data", "axes fraction"),
        xytext=(4, -3),
        textcoords="offset points",
        va="top",
        fontsize=9,
    )
    for height, table in enumerate(tables):
        for loss in LOSSES:
            gaps = [row.gap for row in rows if row.table == table and row.method.endswith(f"-{loss}")]
            heights = [height + 0.22 * (LOSSES.index(loss) - 1)] * len(gaps)
            draw(axes, gaps, heights, np.full((2, len(gaps)), np.nan), loss, LOSSES, horizontal=True, hollow=True)
    names = [f"Table {table[-1]}, paper" for table in tables]
    for pair, estimate in measured.items():
        lengths = np.nan_to_num([[estimate.mean - estimate.lo], [estimate.hi - estimate.mean]])
        how = {"color": PAIR_COLOUR, "marker": "|", "markersize": 12, "capsize": 4, "linewidth": 2}
        axes.errorbar([estimate.mean], [len(names)], xerr=lengths, **how)
        end = (np.nanmax([estimate.mean, estimate.hi]), len(names))
        beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "fontsize": 9}
        axes.annotate(number(estimate.mean, 1), end, **beside)
        names.append(f"{pair} pairs,\n{'toy world' if world == 'toy' else 'measured'}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.9)
    axes.grid(visible=False, axis="y")
