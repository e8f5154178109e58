"""Training time by loss (Sec. 6 of the paper): from the jobs' benchmark files and the trainings' own summaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hps.evidence.render import Cell, Column, Page, Table, number, world_note
from hps.evidence.results import Training, csv_text, fewer_responses, plain, read_csv
from hps.evidence.results import number as cell_number
from hps.support.errors import InputError

PAPER_COLUMNS = ("loss", "hours_mean", "hours_std")
COLUMNS = (
    *PAPER_COLUMNS,
    "runs",
    "n",
    "responses",
    "step_seconds_mean",
    "step_seconds_std",
    "tokens_per_second",
    "ratio_to_bt",
)


@dataclass(frozen=True)
class Time:
    """Times of a loss over its runs; standard deviations are of the sample, NaN for a single run."""

    loss: str
    hours_mean: float  # of the whole job
    hours_std: float
    runs: int
    n: int  # responses a prompt
    responses: int  # of them, those that the loss saw
    step_seconds_mean: float  # of an optimizer step
    step_seconds_std: float
    tokens_per_second: float
    ratio_to_bt: float  # of the step seconds, over the runs that BT has too but for the loss; NaN without any

    @property
    def told(self) -> str:
        """How many responses the loss saw, where those were not all n."""
        return fewer_responses(self.responses, self.n)


def measure(trainings: Sequence[Training], job_seconds: Sequence[float], order: Sequence[str]) -> list[Time]:
    """Times by loss, the losses of `order` first and others by name. `job_seconds` holds one value a training.

    Raises InputError when the trainings of a loss saw different numbers of responses.
    """
    by_loss: dict[str, list[tuple[Training, float]]] = {}
    for training, seconds in zip(trainings, job_seconds, strict=True):
        by_loss.setdefault(training.run.loss, []).append((training, seconds))
    bt = {_cell(training): training.step_seconds for training, _ in by_loss.get("bt", [])}
    times = []
    for loss in sorted(by_loss, key=lambda loss: (order.index(loss) if loss in order else len(order), loss)):
        runs = [training for training, _ in by_loss[loss]]
        hours = np.array([seconds for _, seconds in by_loss[loss]]) / 3600
        steps = np.array([training.step_seconds for training in runs])
        rate = sum(training.tokens for training in runs) / sum(training.seconds for training in runs)
        seen = {(training.run.n, training.responses) for training in runs}
        if len(seen) > 1:
            raise InputError(runs[-1].folder / "training.json", f"{loss} with several (n, responses): {sorted(seen)}")
        both = [(training.step_seconds, bt[_cell(training)]) for training in runs if _cell(training) in bt]
        ratio = float(np.divide(*np.sum(both, axis=0))) if both else math.nan
        times.append(Time(loss, *_moments(hours), len(runs), *seen.pop(), *_moments(steps), rate, ratio))
    return times


def read_paper_hours(path: str | Path) -> dict[str, tuple[float, float]]:
    """The paper's hours by loss, as (mean, standard deviation). Raises InputError naming file and column."""
    return {
        row["loss"]: (cell_number(row, "hours_mean", path), cell_number(row, "hours_std", path))
        for row in read_csv(path, PAPER_COLUMNS)
    }


def read_times(path: str | Path) -> list[Time]:
    """Read what `to_csv` wrote. Raises InputError naming file and column."""
    rows = read_csv(path, COLUMNS)
    if not rows:
        raise InputError(path, "has no rows")
    times = []
    for row in rows:
        values = {name: cell_number(row, name, path) for name in COLUMNS[1:]}
        times.append(Time(row["loss"], **values | {key: int(values[key]) for key in ("runs", "n", "responses")}))
    return times


def to_csv(times: Sequence[Time]) -> str:
    """CSV: the paper's columns, then the rest of COLUMNS; a cell is empty where there is no value."""
    return csv_text(COLUMNS, ({name: plain(getattr(time, name)) for name in COLUMNS} for time in times))


def to_page(
    times: Sequence[Time], trainings: Sequence[Training], paper: dict[str, tuple[float, float]], world: str = ""
) -> Page:
    """Ours beside the paper's hours; the ratio to BT is what can be compared across machines."""
    columns = [
        Column("Loss"),
        Column("ours", "Hours of a training job", numeric=True),
        Column("paper", "Hours of a training job", numeric=True),
        Column("ours (steps)", "Ratio to BT", numeric=True),
        Column("paper (hours)", "Ratio to BT", numeric=True),
        Column("Seconds a step", numeric=True),
        Column("Tokens a second", numeric=True),
        Column("Runs", numeric=True),
    ]
    rows = []
    for time in times:
        hours, std = paper.get(time.loss, (math.nan, math.nan))
        ratio = hours / paper["bt"][0] if "bt" in paper else math.nan
        rows.append(
            [
                Cell(time.loss.upper(), time.told),
                _with_std(time.hours_mean, time.hours_std),
                _with_std(hours, std),
                Cell(number(time.ratio_to_bt, 2)),
                Cell(number(ratio, 2)),
                _with_std(time.step_seconds_mean, time.step_seconds_std),
                Cell(number(time.tokens_per_second, 0)),
                Cell(str(time.runs)),
            ]
        )
    notes = [
        *world_note(world),
        "Hours are of the whole training job (its benchmark file), seconds a step of the optimizer steps alone; both "
        "are means over runs ± the standard deviation between runs. Our ratio to BT is that of the seconds a step, "
        "over the runs that differ from one of BT in the loss alone: it leaves out start-up, a large part of a short "
        "job. –: no value.",
        f"Ours: n = {_values(trainings, 'n')}, parameterizations {_values(trainings, 'parameterization')}, data sets "
        f"{_values(trainings, 'dataset')}, seeds {_values(trainings, 'seed')}.",
    ]
    if fewer := [time.loss.upper() for time in times if time.told]:
        notes.append(
            f"{', '.join(fewer)} used fewer responses than n, as the rows say: that is another experiment, and no time "
            "to hold against the paper's."
        )
    cells = {loss: {_cell(t) for t in trainings if t.run.loss == loss} for loss in (time.loss for time in times)}
    if len({frozenset(runs) for runs in cells.values()}) > 1:
        notes.append(
            "The losses were not all trained at the same settings, so their hours and seconds are not strictly "
            "comparable; the ratios are."
        )
    return Page("Training time by loss", [Table(columns, rows)], notes)


def _moments(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _with_std(mean: float, std: float) -> Cell:
    """`mean ± std`, with three significant digits of the mean and one decimal at least."""
    decimals = 1 if math.isnan(mean) else max(1, 2 - math.floor(math.log10(mean)))
    return Cell(number(mean, decimals), "" if math.isnan(std) else f"± {number(std, decimals)}")


def _cell(training: Training) -> tuple:
    run = training.run
    return run.dataset, run.parameterization, run.n, run.beta, run.seed


def _values(trainings: Sequence[Training], name: str) -> str:
    return ", ".join(map(str, dict.fromkeys(getattr(training.run, name) for training in trainings)))
