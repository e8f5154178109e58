"""What trained and evaluated runs left behind, read back and checked: the input of tables and figures."""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from hps.data import stages
from hps.data.schemas import PER_PROMPT
from hps.runs import Run
from hps.support import files
from hps.support.errors import InputError
from hps.support.files import parse_json, read_json, read_table

SFT = "sft"
"""The method name of the policy before preference training."""


@dataclass(frozen=True)
class Evaluation:
    """A policy evaluated on a test set; `values` maps a column of PER_PROMPT to (prompts,), NaN where null."""

    folder: Path
    run: Run | None  # None: the SFT policy, or one that others trained
    seed: int  # of the samples; a run's own
    test_set: str
    responses: int | None  # a prompt that the loss saw: n, or for PL perhaps fewer
    bleu_signature: dict[str, str]
    prompt_ids: tuple[str, ...]  # sorted
    values: dict[str, np.ndarray]
    harm: dict[str, Any] | None  # what says which answers are harmful, with what its making measured; None: nothing
    published: dict[str, Any] | None = None  # name, repo and commit of a policy that others trained; then no run

    @property
    def method(self) -> str:
        if self.published:
            return self.published["name"]
        return self.run.method if self.run else SFT

    @property
    def told(self) -> str:
        """How many responses the loss saw, where those were not all n."""
        return fewer_responses(self.responses, self.run.n) if self.run else ""

    @property
    def transfer(self) -> bool:
        """Whether the policy was trained on another data set than the one it is evaluated on."""
        return self.run is not None and self.run.dataset != self.test_set


@dataclass(frozen=True)
class Training:
    """A finished training: its summary and the path of its log."""

    folder: Path
    run: Run
    seconds: float  # of the training loop
    step_seconds: float  # mean of an optimizer step
    tokens: int
    groups: int  # prompts trained on
    responses: int  # responses a prompt that the loss saw: n, or for PL perhaps fewer
    counts: dict[str, Any]  # prompts left out, by reason
    provenance: dict[str, Any]

    @property
    def told(self) -> str:
        """How many responses the loss saw, where those were not all n."""
        return fewer_responses(self.responses, self.run.n)

    def log(self) -> list[dict[str, Any]]:
        """The log, one record an optimizer step. Raises InputError naming file and line."""
        return read_jsonl(self.folder / "log.jsonl")


def fewer_responses(seen: int, n: int) -> str:
    """What a row or a curve says of a loss that saw other than all n responses; empty for the others."""
    return "" if seen == n else f"{seen} of {n} responses"


def read_evaluation(folder: str | Path) -> Evaluation:
    """Read `evaluation.json` and `per_prompt.parquet` of `folder`.

    Raises InputError naming the file when one is missing, a field is absent or of the wrong kind, there are no
    prompts or one twice, a value is null where it may not be, NaN or infinite, or the values are those of another
    evaluation than the one that `evaluation.json` speaks of.
    """
    folder = Path(folder)
    summary_path, prompts_path = folder / "evaluation.json", folder / "per_prompt.parquet"
    names = ("run", "seed", "responses", "test_set", "bleu_signature", "harm", "per_prompt")
    summary = _summary(summary_path, "evaluation", names)
    if not prompts_path.is_file():
        raise InputError(prompts_path, "missing: this evaluation has not been run")
    rows = sorted(read_table(prompts_path, PER_PROMPT.names), key=lambda row: row["prompt_id"])
    if not rows:
        raise InputError(prompts_path, "has no prompts")
    prompt_ids = tuple(row["prompt_id"] for row in rows)
    if len(set(prompt_ids)) < len(prompt_ids):
        twice = next(a for a, b in pairwise(prompt_ids) if a == b)
        raise InputError(prompts_path, f"prompt {twice} occurs twice")
    columns = [field for field in PER_PROMPT if field.name != "prompt_id"]
    values = {field.name: _column(prompts_path, rows, field.name, field.nullable) for field in columns}
    run = None if summary["run"] is None else Run.read(summary["run"], summary_path)
    if run and not _is_number(summary["responses"]):
        raise InputError(summary_path, f"responses is {summary['responses']!r}, not how many the loss saw")
    stages.written_together(prompts_path, summary_path, summary["per_prompt"])
    told = (summary[name] for name in ("seed", "test_set", "responses", "bleu_signature"))
    return Evaluation(folder, run, *told, prompt_ids, values, summary["harm"], summary.get("published"))


def read_training(folder: str | Path) -> Training:
    """Read `training.json` of `folder`. Raises InputError naming file and field."""
    path = Path(folder) / "training.json"
    names = ("seconds", "step_seconds", "tokens", "groups", "responses", "counts", "provenance")
    summary = _summary(path, "training", ("run", *names))
    for name in ("seconds", "step_seconds", "tokens", "groups", "responses"):
        if not _is_number(summary[name]) or summary[name] <= 0:
            raise InputError(path, f"{name} is {summary[name]!r}, not a number above 0")
    run = Run.read(summary["run"], path)
    return Training(Path(folder), run, *(summary[name] for name in names))


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """Read a file of one JSON object a line. Raises InputError naming file and line, also where the last one is cut."""
    _check_whole(path)
    records = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), start=1):
        record = parse_json(line, f"{path}:{number}")
        if not isinstance(record, dict):
            raise InputError(f"{path}:{number}", "not a JSON object")
        records.append(record)
    return records


def read_csv(path: str | Path, columns: tuple[str, ...], delimiter: str = ",") -> list[dict[str, str]]:
    """Read the rows of a CSV file as text.

    Raises InputError when it is missing, cut off, has no rows or lacks one of `columns`; or as `files.read_csv` does.
    """
    _check_whole(path)
    rows = list(files.read_csv(path, delimiter))
    if not rows:
        raise InputError(path, "has no rows")
    if missing := [name for name in columns if name not in rows[0]]:
        raise InputError(path, f"has no column {', '.join(missing)}")
    return rows


def _check_whole(path: str | Path) -> None:
    """Every file of lines ends with the end of a line; one that does not was cut off."""
    if not Path(path).is_file():
        raise InputError(path, "missing")
    with open(path, "rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            raise InputError(path, "is empty")
        stream.seek(-1, os.SEEK_END)
        if stream.read() != b"\n":
            raise InputError(path, "ends in the middle of a line: it was cut off")


def number(row: dict[str, str], name: str, where: object) -> float:
    """The number in a cell of `read_csv`, NaN when empty. Raises InputError naming file, column and text."""
    try:
        value = float(row[name]) if row[name] else math.nan
    except ValueError:
        value = math.inf
    if row[name] and not math.isfinite(value):
        raise InputError(where, f"{name} is {row[name]!r}, not a number")
    return value


def plain(value: object) -> str:
    """Text of a CSV cell: numbers in six significant digits, empty for NaN."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.6g}"
    return str(value)


def csv_text(header: Sequence[str], records: Iterable[Mapping[str, Any]]) -> str:
    """Records as CSV; a cell is empty where a record has no value."""
    text = io.StringIO()
    writer = csv.DictWriter(text, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def read_benchmark_seconds(path: str | Path) -> float:
    """Wall seconds of a job from the benchmark file that Snakemake wrote (mean over its rows, usually one)."""
    seconds = [number(row, "s", path) for row in read_csv(path, ("s",), delimiter="\t")]
    if not seconds or not all(value > 0 for value in seconds):
        raise InputError(path, "has no row with the seconds (column s) of a job")
    return sum(seconds) / len(seconds)


def _summary(path: Path, what: str, names: tuple[str, ...]) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(path, f"missing: this {what} has not been run")
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise InputError(path, "not a JSON object")
    for name in names:
        if name not in summary:
            raise InputError(path, f"has no field {name}")
    return summary


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _column(path: Path, rows: list[dict], name: str, nullable: bool) -> np.ndarray:
    for row in rows:
        if not (row[name] is None and nullable) and not _is_number(row[name]):
            raise InputError(path, f"prompt {row['prompt_id']}: {name} is {row[name]}, not a finite number")
    return np.array([math.nan if row[name] is None else row[name] for row in rows], dtype=np.float64)
