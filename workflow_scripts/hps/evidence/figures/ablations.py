"""The ablations: metrics against what the table varies, such as the number of responses n, or beta."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

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
from hps.support.errors import InputError

DODGE = 0.012
"""Horizontal shift between losses, in parts of the axis, so that their error bars do not hide each other."""


def ablation(specs: Sequence[TableSpec], tables: Sequence[str], folder: str) -> Figure:
    """A column a metric; of each table a row of ours and, where the paper has it, one of the paper's."""
    ours = [read_points(spec, path) for spec, path in zip(specs, tables, strict=True)]
    rows = [row for table in ours for row in (table, *read_paper_points(table.spec, folder, table))]
    losses = list(dict.fromkeys(loss for table in rows for loss in table.losses()))
    width = max(len(spec.drawn) for spec in specs)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(max(7, 3.7 * width), 2.9 * len(rows) + 0.6), layout="constrained")
        grid = figure.subplots(len(rows), width, squeeze=False)
        for line, table in zip(grid, rows, strict=True):
            source = "ours" if table in ours else "paper"
            for axes, metric in zip(line, table.spec.drawn, strict=False):
                _panel(axes, table, metric, losses, hollow=source == "paper")
                axes.set_title(f"{name_of(table.points[0].tested_on)}\n{table.kind}, {source}")
                axes.set_xlabel({"n": "Responses a prompt, n"}.get(table.spec.column, table.spec.label))
                axes.set_ylabel(METRICS[metric].title)
        legend(figure, losses, told=told(ours))
    return figure


def _panel(axes: Axes, table: PointTable, metric: str, losses: list[str], hollow: bool) -> None:
    if len(table.parameterizations()) > 1:
        names = ", ".join(table.parameterizations())
        raise InputError(table.where, f"parameterizations {names}: an ablation is drawn for one")
    places = _places(table.blocks())
    ticks = list(places.values())
    width = (ticks[-1] - ticks[0]) or ticks[-1] or 1
    drawn = table.losses()
    for loss in drawn:
        points = sorted((point for point in table.points if point.loss == loss), key=lambda point: places[point.block])
        shift = width * DODGE * (drawn.index(loss) - (len(drawn) - 1) / 2)
        values = np.array([point.values[metric] for point in points])
        x = [places[point.block] + shift for point in points]
        style = {"linestyle": "--" if hollow else "-", "linewidth": 1.2}
        draw(axes, x, values[:, 0], values[:, 1:].T, loss, losses, hollow=hollow, **style)
    axes.set_xticks(ticks, list(places))
    axes.set_xlim(ticks[0] - 0.08 * width, ticks[-1] + 0.08 * width)
    axes.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))


def _places(blocks: Sequence[str]) -> dict[str, float]:
    """Where each block stands on the axis: numbers in rising order where they are, others side by side."""
    try:
        return dict(sorted(((block, float(block)) for block in blocks), key=lambda place: place[1]))
    except ValueError:
        return {block: float(position) for position, block in enumerate(blocks)}
