"""What all figures share: colours, fonts, reading of tables, and files that are the same bytes for the same input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hps.data.formats import FORMATS
from hps.evidence.results import SFT, fewer_responses, number, read_csv
from hps.evidence.tables import TableSpec
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
DATASETS = {name: form.TITLE for name, form in FORMATS.items() if hasattr(form, "TITLE")}

RUN = ("method", "trained_on", "run_n", "run_beta", "run_settings")
"""Columns of a table's CSV that tell runs apart, but for the seed."""


@dataclass(frozen=True)
class TablePoint:
    """A row of a table: a method, what names its block, and (mean, lo, hi) by metric, NaN where there is none."""

    block: str
    parameterization: str
    loss: str
    tested_on: str
    run: tuple[str, ...]  # what tells its runs from others, but for the seed; () of the paper's
    values: dict[str, tuple[float, float, float]]
    told: str = ""  # how many responses its loss saw, where those were not all n


@dataclass(frozen=True)
class PointTable:
    """The trained policies of one table, of ours or of the paper's."""

    points: list[TablePoint]
    spec: TableSpec
    where: str

    @property
    def kind(self) -> str:
        return "transfer" if self.spec.transfer else "fine-tuning"

    def blocks(self) -> list[str]:
        return _unique(point.block for point in self.points)

    def parameterizations(self) -> list[str]:
        return _unique(point.parameterization for point in self.points)

    def losses(self) -> list[str]:
        return _unique(point.loss for point in self.points)


def read_points(spec: TableSpec, path: str | Path) -> PointTable:
    """Read a table of ours, as CSV; the SFT policy, and those that others trained, are left out.

    Raises InputError naming the file when a column is missing, a cell is no number, or there is no trained policy.
    """
    intervals = [f"{name}{end}" for name in spec.drawn for end in ("", "_lo", "_hi")]
    points = []
    for row in _trained(path, (*spec.keys, *intervals, "responses", "tested_on", *RUN)):
        values = {name: tuple(number(row, f"{name}{end}", path) for end in ("", "_lo", "_hi")) for name in spec.drawn}
        says = fewer_responses(*(int(number(row, name, path)) for name in ("responses", "run_n")))
        points.append(
            TablePoint(
                row[spec.column], *_parts(row, path), row["tested_on"], tuple(row[name] for name in RUN), values, says
            )
        )
    return PointTable(points, spec, str(path))


def read_paper_points(spec: TableSpec, folder: str, ours: PointTable) -> list[PointTable]:
    """The paper's counterpart of `ours`, which has no intervals; none where the paper has no such table."""
    if not folder or not spec.paper:
        return []
    path, points = Path(folder) / spec.paper, []
    for row in _trained(path, (*spec.keys, *spec.drawn)):
        values = {name: (number(row, name, path), math.nan, math.nan) for name in spec.drawn}
        points.append(TablePoint(row[spec.column], *_parts(row, path), ours.points[0].tested_on, (), values))
    return [PointTable(points, spec, str(path))]


def told(tables: Iterable[PointTable]) -> dict[str, str]:
    """What the legend says of a loss beyond its name."""
    return {point.loss: point.told for table in tables for point in table.points}


def _trained(path: str | Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    # Ours have no `trained_on` for what we did not train; the paper's have no such column.
    rows = [row for row in read_csv(path, columns) if row["method"] != SFT and row.get("trained_on") != ""]
    if not rows:
        raise InputError(path, "has no trained policy to draw")
    return rows


def _parts(row: dict[str, str], path: str | Path) -> list[str]:
    parts = row["method"].split("-")
    if len(parts) != 2:
        raise InputError(path, f"method {row['method']!r} is not <parameterization>-<loss>")
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
    axes.errorbar(
        x,
        y,
        **{"xerr" if horizontal else "yerr": lengths(x if horizontal else y, intervals)},
        color=colour,
        marker=marker,
        markersize=7,
        markerfacecolor="white" if hollow else colour,
        markeredgewidth=1.5,
        elinewidth=1.5,
        capsize=3,
        **{"linestyle": "none"} | how,
    )


def lengths(middle: Sequence[float], intervals: np.ndarray) -> np.ndarray:
    """Of error bars, below and above: (2, points), 0 where there is no interval."""
    middle = np.asarray(middle, dtype=float)
    return np.abs(np.nan_to_num(np.stack([middle - intervals[0], intervals[1] - middle])))


def legend(
    figure: Figure,
    losses: Sequence[str],
    *,
    lines: bool = False,
    hollow: bool = False,
    told: Mapping[str, str] | None = None,
) -> None:
    """One legend of the losses for the whole figure, below the panels: their markers, or lines in their colours.

    told: by loss, what else its name says: how many responses it saw, where those were not all n.
    """
    handles = []
    for loss in losses:
        colour, marker = look(loss, losses)
        how = {"linewidth": 2.5} if lines else {"marker": marker, "markersize": 7, "linestyle": "none"}
        fill = "white" if hollow else colour
        says = f"{loss.upper()} ({told[loss]})" if told and told.get(loss) else loss.upper()
        handles.append(Line2D([], [], color=colour, markerfacecolor=fill, label=says, **how))
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
