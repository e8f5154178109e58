"""Margin, reward and harm against the KL to the reference: losses compared at the same distance, not the same step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hps.evidence.figures.style import (
    SETTINGS,
    PointTable,
    TablePoint,
    draw,
    legend,
    lengths,
    name_of,
    read_paper_points,
    read_points,
    told,
)
from hps.evidence.metrics import METRICS
from hps.evidence.results import SFT, number, read_csv
from hps.evidence.tables import TableSpec

DISTANCE, SHOWN = "kl", ("rm_dpo", "reward", "harm")


def frontier(specs: Sequence[TableSpec], tables: Sequence[str], folder: str) -> Figure:
    """A row a metric, a column a data set, and one for the paper's runs whose KL it prints (Table 8).

    A marker is a row of a table; a run that stands in several is drawn once. The markers of a method are connected in
    the order of their KL. Where some parameterizations have several, those that have one each are pale, without bars.
    """
    drawn = (DISTANCE, *SHOWN)
    ours = [read_points(replace(spec, drawn=drawn), path) for spec, path in zip(specs, tables, strict=True)]
    theirs = [
        paper
        for table in ours
        if DISTANCE in table.spec.metrics
        for paper in read_paper_points(replace(table.spec, drawn=(DISTANCE, *SHOWN[:2])), folder, table)
    ]
    columns = [(name, "ours", points) for name, points in _by_data_set(ours).items()]
    columns += [(name, "paper", points) for name, points in _by_data_set(theirs).items()]
    losses = list(dict.fromkeys(point.loss for *_, points in columns for point in points))
    metrics = [name for name in SHOWN if any(_known(point, name) for *_, points in columns for point in points)]
    before = _before_training(specs, tables)
    strong = {name for *_, points in columns for name in _several(points)}
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(max(7, 4 * len(columns)), 3.1 * len(metrics) + 0.6), layout="constrained")
        grid = figure.subplots(len(metrics), len(columns), squeeze=False)
        for (name, source, points), panels in zip(columns, grid.T, strict=True):
            panels[0].set_title(f"{name_of(name)}\nfine-tuning, {source}")
            for axes, metric in zip(panels, metrics, strict=True):
                axes.set(xlabel=METRICS[DISTANCE].title, ylabel=METRICS[metric].title)
                axes.set_visible(any(_known(point, metric) for point in points))
                level = 0.0 if metric == "rm_dpo" else before.get((name, metric), math.nan)
                if metric == "rm_dpo" or (source == "ours" and not math.isnan(level)):
                    axes.axhline(level, color="#555555", linewidth=1, linestyle="--")
                _panel(axes, points, metric, losses, strong, hollow=source == "paper")
        legend(figure, losses, told=told(ours))
    return figure


def _panel(
    axes: Axes, points: Iterable[TablePoint], metric: str, losses: list[str], strong: set[str], hollow: bool
) -> None:
    methods: dict[tuple[str, str], list[TablePoint]] = {}
    for point in points:
        if _known(point, metric):
            methods.setdefault((point.parameterization, point.loss), []).append(point)
    for (parameterization, loss), own in methods.items():
        own.sort(key=lambda point: point.values[DISTANCE])
        x, y = (np.array([point.values[name] for point in own]).T for name in (DISTANCE, metric))
        style = {"linestyle": "--" if hollow else "-", "linewidth": 1.2}
        if strong and parameterization not in strong:
            y[1:], style["alpha"] = math.nan, 0.35
        else:
            style["xerr"] = lengths(x[0], x[1:])
        draw(axes, x[0], y[0], y[1:], loss, losses, hollow=hollow, **style)


def _by_data_set(tables: Iterable[PointTable]) -> dict[str, list[TablePoint]]:
    """Points by the data set they were evaluated on, each run once: as the first table has it, with its seeds."""
    found: dict[str, dict[tuple, TablePoint]] = {}
    for point in (point for table in tables for point in table.points):
        key = point.run or (point.parameterization, point.loss, point.block)
        if _known(point, DISTANCE):
            found.setdefault(point.tested_on, {}).setdefault(key, point)
    return {name: list(points.values()) for name, points in found.items()}


def _several(points: Iterable[TablePoint]) -> set[str]:
    """The parameterizations that have a loss with several points."""
    methods = [(point.parameterization, point.loss) for point in points]
    return {parameterization for parameterization, loss in methods if methods.count((parameterization, loss)) > 1}


def _known(point: TablePoint, metric: str) -> bool:
    return not math.isnan(point.values.get(metric, (math.nan,))[0])


def _before_training(specs: Sequence[TableSpec], tables: Sequence[str]) -> Mapping[tuple[str, str], float]:
    """Reward and harm of the policy before preference training, by data set and metric."""
    return {
        (row["tested_on"], metric): number(row, metric, path)
        for spec, path in zip(specs, tables, strict=True)
        for row in (read_csv(path, ("method", "tested_on", *SHOWN)) if spec.sft else ())
        if row["method"] == SFT
        for metric in SHOWN
    }
