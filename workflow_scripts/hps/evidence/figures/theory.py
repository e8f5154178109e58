"""The theorems on linear rewards: errors against m and n, the gap to the worst case, the angle to the widest margin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hps.evidence.figures.style import LOOKS, OTHER_LOOKS, SETTINGS
from hps.evidence.theory.experiments import Point
from hps.evidence.theory.page import METHODS

Change = Callable[[np.ndarray], np.ndarray]
STYLES = {
    "hps": LOOKS["hps"],
    "pl": LOOKS["pl"],
    "bt": LOOKS["bt"],
    "hps_gamma1": OTHER_LOOKS[0],
    "hps_gamma5": OTHER_LOOKS[1],
    "same": LOOKS["hps"],
    "other": OTHER_LOOKS[3],
}


def theory(points: Sequence[Point]) -> Figure:
    """Four panels, each with its own legend."""
    with mpl.rc_context(SETTINGS | {"font.size": 10, "legend.fontsize": 8.5}):
        figure = Figure(figsize=(10, 8), layout="constrained")
        ((by_m, by_n), (gap, angle)) = figure.subplots(2, 2)
        for axes, name, exponent in ((by_m, "m", -0.5), (by_n, "n", None)):
            _lines(axes, points, f"error_by_{name}", exponents=f"exponent_{name}")
            _log(axes)
            ticks = [point.x for point in points if point.quantity == f"error_by_{name}" and point.method == "pl"]
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.set_ylim(bottom=axes.get_ylim()[0] / 3)  # room for the legend
            axes.set_ylabel(r"Relative error $|\hat\theta - \theta^*| / |\theta^*|$")
            if exponent is not None:
                _slope(axes, exponent, r"slope of the bounds, $1/\sqrt{m}$")
        by_m.set(xlabel="Prompts, m", title="Theorem 1: error against prompts")
        by_n.set(xlabel="Responses a prompt, n", title="Theorem 1: error against responses")
        _lines(gap, points, "gap")
        gap.axhline(0, color="#555555", linewidth=1)
        gap.set_xscale("symlog", linthresh=5)
        ticks = (-5, -2.5, 0, 2.5, 5, 10, 20, 40, 80)
        gap.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
        gap.set_xticks([], minor=True)
        gap.set_xlim(-6, 100)
        gap.set(
            xlabel="Hardness, γ", ylabel="Worst-case loss - HPS loss (nats)", title="Theorem 2: gap to the worst case"
        )
        _lines(angle, points, "cosine", change=lambda cosine: np.degrees(np.arccos(np.clip(cosine, -1, 1))))
        _log(angle)
        angle.set(
            xlabel=r"Norm of the minimiser, $|\theta|$",
            ylabel="Angle to the max-margin direction (degrees)",
            title="Theorem 3: direction of the minimiser",
        )
        for axes in (by_m, by_n, gap, angle):
            place = "lower left" if axes in (by_m, by_n) else "best"
            axes.legend(frameon=True, framealpha=0.85, edgecolor="none", loc=place)
    return figure


def _lines(
    axes: Axes, points: Sequence[Point], quantity: str, change=lambda values: values, exponents: str = ""
) -> None:
    slopes = {point.method: point.estimate for point in points if point.quantity == exponents}
    for method in dict.fromkeys(point.method for point in points if point.quantity == quantity):
        own = [point for point in points if point.quantity == quantity and point.method == method]
        values = np.array([change(np.array(point.estimate[:3])) for point in own])
        colour, marker = STYLES[method]
        lengths = np.abs(values[:, 1:] - values[:, :1]).T
        label = METHODS[method]
        if method in slopes:
            slope = slopes[method]
            label += f": exponent {slope.mean:.2f} [{slope.lo:.2f}, {slope.hi:.2f}]"
        # arccos turns the order of an interval's ends around
        lengths = lengths[::-1] if values[0, 1] > values[0, 2] else lengths
        axes.errorbar(
            [point.x for point in own], values[:, 0], yerr=lengths, color=colour, marker=marker, capsize=3, label=label
        )


def _log(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(mpl.ticker.NullFormatter())
    axes.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda value, _: f"{value:g}"))


def _slope(axes: Axes, exponent: float, label: str) -> None:
    """A dashed line of this slope through the lower left of what is drawn."""
    x = np.array(axes.get_lines()[0].get_xdata(), dtype=float)
    start = min(line.get_ydata()[0] for line in axes.get_lines() if len(line.get_ydata()) == len(x)) * 0.75
    axes.plot(x, start * (x / x[0]) ** exponent, color="#555555", linestyle="--", linewidth=1.2, label=label)
