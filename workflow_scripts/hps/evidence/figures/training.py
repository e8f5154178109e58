"""Training: time by loss as a ratio to BT, and the course of loss, margin, gradient norm and drawn negatives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from hps.evidence.figures.style import SETTINGS, legend, look, name_of
from hps.evidence.results import Training, read_training
from hps.evidence.tables import TableSpec
from hps.evidence.training_time import read_paper_hours, read_times
from hps.support.errors import InputError

CURVES = {
    "loss": "Loss",
    "margin": "Implicit reward\nmargin (nats)",
    "grad_norm": "Gradient norm",
    "gamma": "γ",
    "hardness": "Hardness of\nnegatives (0–1)",
}
WINDOWS = 25
"""A curve is averaged over a window of its length divided by this."""


def training_time(specs: Sequence[TableSpec], tables: Sequence[str], folder: str) -> Figure:
    """Ratio to BT by loss: ours of the seconds a step, the paper's of the hours; bars span one standard deviation."""
    ((spec, path),) = zip(specs, tables, strict=True)
    times = read_times(path)
    hours = read_paper_hours(Path(folder) / spec.paper) if folder else {}
    bt = next((time for time in times if time.loss == "bt"), None)
    if bt is None:
        raise InputError(path, "has no row bt, to which the times are related")
    losses = list(dict.fromkeys([time.loss for time in times] + list(hours)))
    told = {time.loss: f"ours: {time.told}" for time in times if time.told}
    ratios = [time.ratio_to_bt for time in times] + [mean / hours["bt"][0] for mean, _ in hours.values()]
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(8, 1.9 + 0.8 * len(losses)), layout="constrained")
        axes = figure.subplots()
        for time in times:
            spread = time.step_seconds_std / bt.step_seconds_mean
            text = f"{time.step_seconds_mean:.3g} s a step"
            _dot(axes, losses.index(time.loss) - 0.16, time.ratio_to_bt, spread, time.loss, losses, text, False)
        for loss, (mean, std) in hours.items():
            text = f"{mean:g} h"
            _dot(axes, losses.index(loss) + 0.16, mean / hours["bt"][0], std / hours["bt"][0], loss, losses, text, True)
        axes.axvline(1, color="#555555", linewidth=1)
        if max(ratios) > 8:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xlim(min(0.7, 0.8 * min(ratios)), 3 * max(ratios))
        else:
            axes.set_xlim(0, 1.35 * max(ratios))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_yticks(
            range(len(losses)), ["\n".join(filter(None, (loss.upper(), told.get(loss)))) for loss in losses]
        )
        axes.set_ylim(len(losses) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("Training time, ratio to BT")
        filled = {"color": "#555555", "marker": "o", "linestyle": "none", "markersize": 7}
        handles = [Line2D([], [], label="ours (time of a step)", **filled)]
        handles += [Line2D([], [], label="paper (hours)", markerfacecolor="white", **filled)] if hours else []
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def training_curves(folders: Sequence[str], dataset: str) -> Figure:
    """The logs of the trainings on `dataset`: a column a parameterization, a row a quantity, a line a loss, seed."""
    trainings = [training for training in map(read_training, folders) if training.run.dataset == dataset]
    if not trainings:
        raise InputError("--dataset", f"none of the {len(folders)} trainings is on {dataset}")
    for name in ("n", "beta"):
        for a, b in pairwise(trainings):
            if getattr(a.run, name) != getattr(b.run, name):
                both = f"{getattr(a.run, name)} and {getattr(b.run, name)}"
                raise InputError(b.folder, f"{name} = {both}: curves of one {name} can be drawn together")
    logs = [(training, training.log()) for training in trainings]
    losses = list(dict.fromkeys(training.run.loss for training in trainings))
    parameterizations = list(dict.fromkeys(training.run.parameterization for training in trainings))
    shown = [name for name in CURVES if any(record.get(name) is not None for _, log in logs for record in log)]
    if not shown:
        raise InputError(trainings[0].folder / "log.jsonl", f"records none of {', '.join(CURVES)}")
    with mpl.rc_context(SETTINGS):
        size = (max(6, 1 + 2.8 * len(parameterizations)), 1.1 + 1.8 * len(shown))
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(shown), len(parameterizations), squeeze=False, sharex="col")
        for row, name in zip(grid, shown, strict=True):
            for axes, parameterization in zip(row, parameterizations, strict=True):
                mine = [(training, log) for training, log in logs if training.run.parameterization == parameterization]
                drawn = [_curve(axes, training, log, name, losses) for training, log in mine]
                if not any(drawn):
                    axes.set_axis_off()
            row[0].set_ylabel(CURVES[name])
        for axes, parameterization in zip(grid[0], parameterizations, strict=True):
            axes.set_title(parameterization.upper())
        for axes in grid[-1]:
            axes.set_xlabel("Optimizer step")
        run = trainings[0].run
        figure.suptitle(f"Training on {name_of(dataset)}, n = {run.n}, β = {run.beta:g}", fontsize=12)
        figure.align_ylabels(grid[:, 0])
        legend(figure, losses, lines=True, told={training.run.loss: training.told for training in trainings})
    return figure


def smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over a window of the length / WINDOWS, cut at the ends: (steps,) to (steps,)."""
    window = max(1, len(values) // WINDOWS) | 1
    weights = np.ones(window)
    return np.convolve(values, weights, "same") / np.convolve(np.ones(len(values)), weights, "same")


def _curve(axes: Axes, training: Training, log: list[dict], name: str, losses: list[str]) -> bool:
    """Draw one curve: the record itself pale, its moving average on top. False when the log has no values of it."""
    records = [record for record in log if record.get(name) is not None]
    if not records:
        return False
    if any("step" not in record for record in records):
        raise InputError(training.folder / "log.jsonl", "a record has no step")
    steps, values = ([record[key] for record in records] for key in ("step", name))
    colour, _ = look(training.run.loss, losses)
    if name == "gamma":
        axes.step(steps, values, color=colour, linewidth=1.5, where="mid")
    else:
        axes.plot(steps, values, color=colour, linewidth=0.6, alpha=0.3)
        axes.plot(steps, smooth(np.array(values, dtype=float)), color=colour, linewidth=1.5)
    return True


def _dot(axes: Axes, height: float, ratio: float, spread: float, loss: str, losses: list[str], text: str, hollow: bool):
    colour, _ = look(loss, losses)
    axes.errorbar(
        [ratio],
        [height],
        xerr=None if math.isnan(spread) else [spread],
        color=colour,
        marker="o",
        markersize=8,
        markerfacecolor="white" if hollow else colour,
        markeredgewidth=1.5,
        capsize=3,
        linestyle="none",
    )
    end = ratio + (0 if math.isnan(spread) else spread)
    axes.annotate(text, (end, height), xytext=(9, 0), textcoords="offset points", va="center", fontsize=10)
