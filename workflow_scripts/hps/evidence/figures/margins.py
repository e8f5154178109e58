"""Margins by method, fine-tuning and transfer, a panel a data set; the paper's in a row of their own."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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

METRIC = "rm_dpo"


def margins(tables: Sequence[str], paper: Sequence[str]) -> Figure:
    """RM_DPO of Tables 2 and 5. `paper` has the paper's file for each of `tables`, or is empty.

    Rows: ours, the paper's (models and scale differ, so the axes do). Columns: data set and kind of evaluation.
    """
    ours = [read_points(path, "evaluated_on", [METRIC]) for path in tables]
    theirs = [
        read_paper_points(path, "evaluated_on", [METRIC], table) for path, table in zip(paper, ours, strict=bool(paper))
    ]
    losses = list(dict.fromkeys(loss for table in ours + theirs for loss in table.losses()))
    panels = [(position, block) for position, table in enumerate(ours) for block in table.blocks()]
    rows = [ours, theirs] if theirs else [ours]
    rewards = list(dict.fromkeys(reward for table in ours for reward in table.rewards()))
    with mpl.rc_context(SETTINGS):
        size = (max(7, 1.2 + 3 * len(panels)), len(rows) * (1.4 + 0.5 * len(rewards)) + 0.9)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), len(panels), squeeze=False, sharey="row")
        for line, (row, source) in enumerate(zip(rows, ("ours", "paper"), strict=False)):
            for axes, (position, block) in zip(grid[line], panels, strict=True):
                axes.set_title(f"{name_of(block)}\n{ours[position].kind}, {source}")
                _panel(axes, row[position], block, losses, rewards, hollow=source == "paper")
        legend(figure, losses)
    return figure


def _panel(axes: Axes, table: PointTable, block: str, losses: list[str], rewards: list[str], hollow: bool) -> None:
    shown = [loss for loss in losses if any(point.loss == loss for point in table.points)]
    points = [point for point in table.points if point.block == block and point.reward in rewards]
    for loss in shown:
        mine = [point for point in points if point.loss == loss]
        offset = 0.5 * (losses.index(loss) - (len(losses) - 1) / 2) / max(1, len(losses) - 1)
        values = np.array([point.values[METRIC] for point in mine]).reshape(-1, 3)
        heights = [rewards.index(point.reward) + offset for point in mine]
        draw(axes, values[:, 0], heights, values[:, 1:].T, loss, losses, horizontal=True, hollow=hollow)
    axes.axvline(0, color="#555555", linewidth=1)
    axes.set_xlabel(METRICS[METRIC])
    axes.set_yticks(range(len(rewards)), [reward.upper() for reward in rewards])
    axes.set_ylim(len(rewards) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
