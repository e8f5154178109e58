"""Where the numbers of a claim come from: the paper's tables, or our evaluations, trainings and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hps.evidence.claims.vocabulary import Operand, Value
from hps.evidence.metrics import METRICS
from hps.evidence.results import Evaluation, Training, number, read_csv
from hps.evidence.table_rows import Choices, per_prompt
from hps.evidence.tables import EVALUATIONS, TABLES, shows
from hps.runs import Run, training_seeds
from hps.support.errors import InputError

PAPER_FILES = {name: spec.paper for name, spec in TABLES.items() if spec.paper}
OURS = {name: spec for name, spec in TABLES.items() if spec.source == EVALUATIONS and spec.paper}
NUMBERS = ("n", "beta")
COUNTS = ("prompts", "units")
"""Columns that say how many prompts or repetitions a row rests on."""
TIME = "time"
TIME_COLUMN = "hours_mean"
"""Claims say `time`: in the paper hours of a training, here seconds of an optimizer step, since the start-up is a large
part of a short training."""


@dataclass(frozen=True)
class Measured:
    """A number of a table, with what is known of its uncertainty.

    Either `values` (seeds, units): the number under each training seed for each test prompt, with the names of both, or
    (1, units) for each training or repetition, which have no seeds; or an interval; or neither (the paper's).
    """

    mean: float
    values: np.ndarray | None = None
    units: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()  # empty: not a matter of training seeds
    lo: float = math.nan
    hi: float = math.nan
    count: int = 0  # prompts or repetitions behind an interval; 0: not known


class Evidence(Protocol):
    """Numbers of tables by row and column."""

    def measure(self, table: str, operand: Operand) -> Measured | None:
        """The number, or None where the table has none."""

    def values(self, table: str, column: str) -> list[Value]:
        """The different values of a column that names rows, numbers in rising order."""

    def why_absent(self, table: str) -> str:
        """Why the table has no numbers at all; empty when it has some."""

    def why_unequal(self, operands: Iterable[Operand]) -> str:
        """Why the numbers may not be compared although they are there; empty when they may."""


@dataclass
class CsvTables:
    """Tables as CSV files: means, and intervals where columns `<metric>_lo` and `<metric>_hi` stand beside them."""

    rows: dict[str, list[dict[str, str]]]
    paths: dict[str, str]
    absent: str = "{} has not been made"

    @classmethod
    def read(cls, paths: Mapping[str, str | Path]) -> CsvTables:
        """Raises InputError when a file is missing."""
        return cls({name: read_csv(path, ()) for name, path in paths.items()}, {n: str(p) for n, p in paths.items()})

    @classmethod
    def of_the_paper(cls, folder: str | Path) -> CsvTables:
        tables = cls.read({name: Path(folder) / file for name, file in PAPER_FILES.items()})
        return replace(tables, absent="no numbers in the paper")

    def measure(self, table: str, operand: Operand) -> Measured | None:
        metric = TIME_COLUMN if operand.metric == TIME else operand.metric
        rows = [row for row in self.rows.get(table, []) if _matches(row, operand.cell, self.paths[table])]
        if len(rows) > 1:
            raise InputError(self.paths[table], f"{len(rows)} rows for {_text(operand.cell)}")
        if not rows:
            return None
        if metric not in rows[0] and (operand.optional or metric in METRICS):
            return None  # a metric that the paper lacks
        if metric not in rows[0]:
            raise InputError(self.paths[table], f"has no column {metric}")
        mean, lo, hi = (
            number(rows[0], name, self.paths[table]) if name in rows[0] else math.nan
            for name in (metric, f"{metric}_lo", f"{metric}_hi")
        )
        if math.isnan(mean):
            return None
        counts = [number(rows[0], name, self.paths[table]) for name in COUNTS if rows[0].get(name)]
        return Measured(mean, seeds=_seeds(rows[0]), lo=lo, hi=hi, count=int(min(counts, default=0)))

    def values(self, table: str, column: str) -> list[Value]:
        found = {row[column] for row in self.rows.get(table, []) if column in row}
        if column in NUMBERS:
            return sorted(number({column: value}, column, self.paths[table]) for value in found)
        return sorted(found)

    def why_absent(self, table: str) -> str:
        rows = self.rows.get(table)
        if rows and all(row.get("simulated") == "yes" for row in rows):
            return "the ratings are simulated"  # which says nothing about what people think
        return "" if rows else self.absent.format(table)

    def why_unequal(self, operands: Iterable[Operand]) -> str:
        return ""


@dataclass(frozen=True)
class Settings:
    """What tells the tables apart among our runs: the configuration by dotted key; and the variants of the metrics."""

    config: Mapping[str, Any]
    choices: Choices


@dataclass
class OurResults:
    """Our evaluations (a number for every prompt and seed), trainings (for time), and tables made otherwise."""

    evaluations: dict[tuple[str, str, str], dict[int, Evaluation]]
    trainings: list[Training]
    settings: Settings
    others: CsvTables
    grid: dict[str, dict[tuple, dict[int, Evaluation]]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, evaluations: Iterable[Evaluation], trainings: Sequence[Training], settings: Settings, others: CsvTables
    ) -> OurResults:
        """Sort evaluations by table and row. Raises InputError when two have the same row and seed."""
        results = cls({}, list(trainings), settings, others)
        for evaluation in evaluations:
            for table, key in _places(evaluation, settings):
                seeds = results.grid.setdefault(table, {}).setdefault(key, {})
                seed = evaluation.seed
                if seed in seeds:
                    other = seeds[seed].folder
                    raise InputError(evaluation.folder / "evaluation.json", f"the same row and seed as {other}")
                seeds[seed] = evaluation
        return results

    def measure(self, table: str, operand: Operand) -> Measured | None:
        if table == "training_time":
            return self._time(operand)
        if table not in OURS:
            return self.others.measure(table, operand)
        key = tuple(_plain(operand.cell[name]) for name in OURS[table].keys)
        by_seed = self.grid.get(table, {}).get(key)
        if not by_seed:
            return None
        seeds = sorted(by_seed)
        row = per_prompt([by_seed[seed] for seed in seeds], self.settings.choices)
        if operand.metric not in row:
            raise InputError(f"claims over {table}", f"no metric {operand.metric!r}")
        values = row[operand.metric]
        if np.isnan(values).all():
            return None
        return Measured(float(np.nanmean(values)), values, by_seed[seeds[0]].prompt_ids, tuple(seeds))

    def values(self, table: str, column: str) -> list[Value]:
        if table in OURS and OURS[table].column == column:
            return sorted({key[0] for key in self.grid.get(table, {})})
        return self.others.values(table, column)

    def why_absent(self, table: str) -> str:
        if table == "training_time":
            return "" if self.trainings else "nothing was trained"
        if table in OURS:
            return "" if self.grid.get(table) else f"{table} has not been made"
        return self.others.why_absent(table)

    def why_unequal(self, operands: Iterable[Operand]) -> str:
        """A metric may be known in other runs only; a loss that saw fewer responses than n is another experiment."""
        for operand in operands:
            if needs := self._lacks(operand.metric):
                return needs
            methods, loss = {operand.cell.get(key) for key in ("method", "opponent")}, operand.cell.get("loss")
            n = operand.cell.get("n", self.settings.config["grid.n"])
            for training in self.trainings:
                run = training.run
                if training.responses < run.n == n and (run.method in methods or run.loss == loss):
                    return f"{run.loss.upper()} used {training.responses} of {run.n} responses"
        return ""

    def _lacks(self, metric: str) -> str:
        """What it takes to know a metric that no evaluation knows."""
        if metric not in METRICS or not METRICS[metric].needs:
            return ""
        every = (e for rows in self.grid.values() for seeds in rows.values() for e in seeds.values())
        known = any(not np.isnan(METRICS[metric].of(evaluation)).all() for evaluation in every)
        return "" if known else f"{METRICS[metric].label}: needs {METRICS[metric].needs}"

    def _time(self, operand: Operand) -> Measured | None:
        """Seconds of an optimizer step over the trainings of a loss; the units are the runs apart from their loss."""
        config = self.settings.config
        own = {
            _unit(training.run): training
            for training in self.trainings
            if training.run.loss == operand.cell["loss"]
            and (training.run.n, training.run.beta) == (config["grid.n"], config["objective.beta"])
            and training.run.seed in training_seeds(config, training.run.method)
        }
        if not own:
            return None
        if operand.metric != TIME:
            raise InputError("claims over training_time", f"no metric {operand.metric!r}")
        seconds = np.array([[training.step_seconds for training in own.values()]])
        return Measured(float(seconds.mean()), seconds, tuple(own))


def _places(evaluation: Evaluation, settings: Settings) -> list[tuple[str, tuple]]:
    """The tables that an evaluation stands in, with its row there."""
    run, test_set = evaluation.run, evaluation.test_set
    places = []
    for table, spec in OURS.items():
        if shows(spec, run, test_set, settings.config):
            block = test_set if spec.varies == "evaluated_on" else float(getattr(run, spec.varies))
            places.append((table, (block, evaluation.method)))
    return places


def _seeds(row: Mapping[str, str]) -> tuple[int, ...]:
    """Training seeds of a table's row: those it names; one where it has prompts and names none; else no matter."""
    return tuple(map(int, row.get("seeds", "").split())) or ((0,) if "prompts" in row else ())


def _unit(run: Run) -> str:
    return f"{run.dataset} {run.parameterization} {run.n} {run.beta:g} {run.seed}"


def _plain(value: Value) -> Value:
    return value if isinstance(value, str) else float(value)


def _matches(row: Mapping[str, str], cell: Mapping[str, Value], where: str) -> bool:
    for column, value in cell.items():
        if column not in row:
            raise InputError(where, f"has no column {column}")
        same = number(row, column, where) == value if column in NUMBERS else row[column] == str(value)
        if not same:
            return False
    return True


def _text(cell: Mapping[str, Value]) -> str:
    return ", ".join(f"{column} = {value}" for column, value in cell.items())
