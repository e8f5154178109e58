"""Margins by method, fine-tuning and transfer, a panel a data set; the paper's in a row of their own."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hps.evidence.figures.style import (
    SETTINGS,
    PointTable,
    draw,
    legend,
    name_of,
    read_paper_points,
    read_points,
    told,
)
from hps.evidence.metrics import METRICS
from hps.evidence.tables import TableSpec

METRIC = "rm_dpo"


def margins(specs: Sequence[TableSpec], tables: Sequence[str], folder: str) -> Figure:
    """RM_DPO of Tables 2 and 5.

    Rows: ours, the paper's (models and scale differ, so the axes do). Columns: data set and kind of evaluation.
    """
    ours = [read_points(spec, path) for spec, path in zip(specs, tables, strict=True)]
    theirs = [paper for table in ours for paper in read_paper_points(table.spec, folder, table)]
    losses = list(dict.fromkeys(loss for table in ours + theirs for loss in table.losses()))
    panels = [(position, block) for position, table in enumerate(ours) for block in table.blocks()]
    rows = [ours, theirs] if theirs else [ours]
    parameterizations = list(dict.fromkeys(name for table in ours for name in table.parameterizations()))
    with mpl.rc_context(SETTINGS):
        size = (max(7, 1.2 + 3 * len(panels)), len(rows) * (1.4 + 0.5 * len(parameterizations)) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), len(panels), squeeze=False, sharey="row")
        for line, (row, source) in enumerate(zip(rows, ("ours", "paper"), strict=False)):
            for axes, (position, block) in zip(grid[line], panels, strict=True):
                axes.set_title(f"{name_of(block)}\n{ours[position].kind}, {source}")
                _panel(axes, row[position], block, losses, parameterizations, hollow=source == "paper")
        legend(figure, losses, told=told(ours))
    return figure


def _panel(
    axes: Axes, table: PointTable, block: str, losses: list[str], parameterizations: list[str], hollow: bool
) -> None:
    shown = [loss for loss in losses if any(point.loss == loss for point in table.points)]
    points = [point for point in table.points if point.block == block and point.parameterization in parameterizations]
    for loss in shown:
        mine = [point for point in points if point.loss == loss]
        offset = 0.5 * (losses.index(loss) - (len(losses) - 1) / 2) / max(1, len(losses) - 1)
        values = np.array([point.values[METRIC] for point in mine]).reshape(-1, 3)
        heights = [parameterizations.index(point.parameterization) + offset for point in mine]
        draw(axes, values[:, 0], heights, values[:, 1:].T, loss, losses, horizontal=True, hollow=hollow)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_xlabel(METRICS[METRIC].title)
    axes.set_yticks(range(len(parameterizations)), [name.upper() for name in parameterizations])
    axes.set_ylim(len(parameterizations) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
