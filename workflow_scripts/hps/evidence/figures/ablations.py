"""The ablations: metrics against the number of responses n, and KL and margin against beta."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from hps.evidence.figures.style import (
    METRICS,
    SETTINGS,
    PointTable,
    draw,
    legend,
    name_of,
    read_paper_points,
    read_points,
)
from hps.support.errors import InputError

DODGE = 0.012
"""Horizontal shift between losses, in parts of the axis, so that their error bars do not hide each other."""


def ablation_n(tables: Sequence[str], paper: Sequence[str]) -> Figure:
    """Tables 6 and 7: RM_DPO, BLEU and reward against n, a row a table; the paper's RM_DPO in a column of its own."""
    ours = [read_points(path, "n", ["rm_dpo", "bleu", "reward"]) for path in tables]
    theirs = _paper(paper, ours, "n", ["rm_dpo"])
    rows = []
    for position, table in enumerate(ours):
        panels = [(table, "rm_dpo", "ours")] + ([(theirs[position], "rm_dpo", "paper")] if theirs else [])
        rows.append([*panels, (table, "bleu", "ours"), (table, "reward", "ours")])
    return _grid(rows, "Responses a prompt, n")


def ablation_beta(tables: Sequence[str], paper: Sequence[str]) -> Figure:
    """Table 8: KL and RM_DPO against beta; ours in the first row, the paper's in the second."""
    metrics = ["kl", "rm_dpo"]
    ours = [read_points(path, "beta", metrics) for path in tables]
    theirs = _paper(paper, ours, "beta", metrics)
    rows = [[(table, metric, "ours") for metric in metrics] for table in ours]
    rows += [[(table, metric, "paper") for metric in metrics] for table in theirs]
    return _grid(rows, "β")


def _paper(paper: Sequence[str], ours: list[PointTable], block: str, metrics: list[str]) -> list[PointTable]:
    return [read_paper_points(path, block, metrics, table) for path, table in zip(paper, ours, strict=bool(paper))]


def _grid(rows: list[list[tuple[PointTable, str, str]]], label: str) -> Figure:
    losses = list(dict.fromkeys(loss for row in rows for table, _, _ in row for loss in table.losses()))
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(3.7 * len(rows[0]), 2.9 * len(rows) + 0.6), layout="constrained")
        grid = figure.subplots(len(rows), len(rows[0]), squeeze=False)
        for line, row in zip(grid, rows, strict=True):
            for axes, (table, metric, source) in zip(line, row, strict=True):
                _panel(axes, table, metric, losses, hollow=source == "paper")
                axes.set_title(f"{name_of(table.points[0].tested_on)}\n{table.kind}, {source}")
                axes.set_xlabel(label)
                axes.set_ylabel(METRICS[metric])
        legend(figure, losses)
    return figure


def _panel(axes: Axes, table: PointTable, metric: str, losses: list[str], hollow: bool) -> None:
    try:
        ticks = sorted({float(block) for block in table.blocks()})
    except ValueError:
        raise InputError(table.where, f"rows named {', '.join(table.blocks())}, which are not numbers") from None
    if len(table.rewards()) > 1:
        raise InputError(table.where, f"rewards {', '.join(table.rewards())}: an ablation is drawn for one")
    width = (ticks[-1] - ticks[0]) or ticks[-1]
    drawn = table.losses()
    for loss in drawn:
        points = sorted((point for point in table.points if point.loss == loss), key=lambda point: float(point.block))
        shift = width * DODGE * (drawn.index(loss) - (len(drawn) - 1) / 2)
        values = np.array([point.values[metric] for point in points])
        x = [float(point.block) + shift for point in points]
        style = {"linestyle": "--" if hollow else "-", "linewidth": 1.2}
        draw(axes, x, values[:, 0], values[:, 1:].T, loss, losses, hollow=hollow, **style)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(ticks[0] - 0.08 * width, ticks[-1] + 0.08 * width)
    axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
