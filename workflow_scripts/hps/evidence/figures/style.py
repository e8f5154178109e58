"""What all figures share: colours, fonts, reading of tables, and files that are the same bytes for the same input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hps.evidence.results import SFT, number, read_csv
from hps.support import files
from hps.support.errors import InputError

LOOKS = {"bt": ("#0072B2", "o"), "pl": ("#009E73", "s"), "hps": ("#D55E00", "D")}
OTHER_LOOKS = (("#CC79A7", "^"), ("#E69F00", "v"), ("#56B4E9", "P"), ("#000000", "X"))
"""Colours of Okabe and Ito, which people with any colour vision can tell apart, each with a marker of its own."""

SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e0e0e0",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "hps",
    "savefig.dpi": 150,
}
TOY_TITLE = "ours: results of a toy world, not of the paper's models and data"
METRICS = {
    "rm_dpo": r"RM$_{\mathrm{DPO}}$ (nats)",
    "bleu": "BLEU",
    "reward": "Reward",
    "kl": "KL to the reference (nats)",
}
DATASETS = {"hh_rlhf": "HH-RLHF", "pku_saferlhf": "PKU-SafeRLHF"}


@dataclass(frozen=True)
class Point:
    """A row of a table: a method, what names its block, and (mean, lo, hi) by metric, NaN where there is none."""

    block: str
    reward: str
    loss: str
    transfer: bool
    tested_on: str
    values: dict[str, tuple[float, float, float]]


@dataclass(frozen=True)
class PointTable:
    """The trained policies of one table, of ours or of the paper's."""

    points: list[Point]
    where: str

    @property
    def kind(self) -> str:
        return "transfer" if self.points[0].transfer else "fine-tuning"

    def blocks(self) -> list[str]:
        return _unique(point.block for point in self.points)

    def rewards(self) -> list[str]:
        return _unique(point.reward for point in self.points)

    def losses(self) -> list[str]:
        return _unique(point.loss for point in self.points)


def read_points(path: str | Path, block: str, metrics: Sequence[str]) -> PointTable:
    """Read a CSV of make_table.py; the SFT policy is left out.

    Raises InputError naming the file when a column is missing, a cell is no number, or there is no trained policy.
    """
    intervals = [f"{name}{end}" for name in metrics for end in ("", "_lo", "_hi")]
    points = []
    for row in _trained(path, (block, "method", *intervals, "trained_on", "tested_on")):
        values = {name: tuple(number(row, f"{name}{end}", path) for end in ("", "_lo", "_hi")) for name in metrics}
        crossed = row["trained_on"] != row["tested_on"]
        points.append(Point(row[block], *_parts(row, path), crossed, row["tested_on"], values))
    return PointTable(points, str(path))


def read_paper_points(path: str | Path, block: str, metrics: Sequence[str], ours: PointTable) -> PointTable:
    """Read the paper's counterpart of `ours`, which has no intervals. Raises InputError like `read_points`."""
    points = []
    for row in _trained(path, (block, "method", *metrics)):
        values = {name: (number(row, name, path), math.nan, math.nan) for name in metrics}
        like = ours.points[0]
        points.append(Point(row[block], *_parts(row, path), like.transfer, like.tested_on, values))
    return PointTable(points, str(path))


def _trained(path: str | Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    rows = [row for row in read_csv(path, columns) if row["method"] != SFT]
    if not rows:
        raise InputError(path, "has no trained policy to draw")
    return rows


def _parts(row: dict[str, str], path: str | Path) -> list[str]:
    parts = row["method"].split("-")
    if len(parts) != 2:
        raise InputError(path, f"method {row['method']!r} is not <reward>-<loss>")
    return parts


def look(loss: str, losses: Sequence[str]) -> tuple[str, str]:
    """Colour and marker of a loss; those beyond BT, PL and HPS in the order they come in `losses`."""
    others = [name for name in losses if name not in LOOKS]
    return LOOKS[loss] if loss in LOOKS else OTHER_LOOKS[others.index(loss) % len(OTHER_LOOKS)]


def draw(
    axes: Axes, x: Sequence[float], y: Sequence[float], intervals: np.ndarray, loss: str, losses: Sequence[str], **how
) -> None:
    """Markers with error bars. `intervals` is (2, points): lo and hi of y (or of x with `horizontal=True`)."""
    horizontal, hollow = how.pop("horizontal", False), how.pop("hollow", False)
    colour, marker = look(loss, losses)
    middle = np.asarray(x if horizontal else y, dtype=float)
    lengths = np.abs(np.nan_to_num(np.stack([middle - intervals[0], intervals[1] - middle])))
    axes.errorbar(
        x,
        y,
        **{"xerr" if horizontal else "yerr": lengths},
        color=colour,
        marker=marker,
        markersize=7,
        markerfacecolor="white" if hollow else colour,
        markeredgewidth=1.5,
        elinewidth=1.5,
        capsize=3,
        **{"linestyle": "none"} | how,
    )


def legend(figure: Figure, losses: Sequence[str], *, lines: bool = False, hollow: bool = False) -> None:
    """One legend of the losses for the whole figure, below the panels: their markers, or lines in their colours."""
    handles = []
    for loss in losses:
        colour, marker = look(loss, losses)
        how = {"linewidth": 2.5} if lines else {"marker": marker, "markersize": 7, "linestyle": "none"}
        fill = "white" if hollow else colour
        handles.append(Line2D([], [], color=colour, markerfacecolor=fill, label=loss.upper(), **how))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))


def name_of(dataset: str) -> str:
    return DATASETS.get(dataset, dataset)


def save(figure: Figure, png: str | Path, svg: str | Path, world: str = "") -> None:
    """Write both files, without dates and with fixed ids, so that the same numbers give the same files.

    `world="toy"` says above the figure that ours are results of a toy world, also where it is seen without its caption.
    """
    with mpl.rc_context(SETTINGS):
        if world == "toy":
            figure.suptitle(TOY_TITLE, fontsize=10, style="italic")
        with files.writing(png) as partial:
            figure.savefig(partial, format="png")
        with files.writing(svg) as partial:
            figure.savefig(partial, format="svg", metadata={"Date": None})


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))
