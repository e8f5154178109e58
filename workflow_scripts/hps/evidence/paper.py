"""The paper's own tables (arXiv 2502.14400v5), read from `paper/*.csv`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from hps.evidence.results import SFT, number, read_csv
from hps.evidence.tables import EVALUATIONS, TABLES, TableSpec
from hps.support.errors import InputError

ROUNDING = 0.0005
"""The paper prints three decimals."""
TOKENS_A_NAT = 100
"""RM_R-DPO takes 0.01 a token of the length gap off RM_DPO (Table 1)."""


@dataclass(frozen=True)
class PrintedRow:
    """A trained method in a table of the paper."""

    table: str
    block: str  # data set, or n = ..., or β = ...
    test_set: str
    method: str
    values: dict[str, float]

    @property
    def gap(self) -> float:
        """Length gap |y_1| - |y_2| in tokens that the two margins imply, known to ± `GAP_ROUNDING`."""
        return TOKENS_A_NAT * (self.values["rm_dpo"] - self.values["rm_rdpo"])


METRICS = TABLES["table2"].metrics
"""What all of the paper's tables of evaluations have."""
PRINTED = {name: spec for name, spec in TABLES.items() if spec.source == EVALUATIONS and spec.paper}
"""The paper's tables of evaluations: 2, 5, 6, 7 and 8."""
GAP_ROUNDING = TOKENS_A_NAT * 2 * ROUNDING


def read_table(spec: TableSpec, folder: str | Path) -> dict[tuple, dict[str, float]]:
    """The paper's rows of a table of evaluations by their keys, in the paper's order. Raises InputError."""
    return read_paper(Path(folder) / spec.paper, spec.keys, spec.metrics)


def read_paper(path: str | Path, keys: tuple[str, ...], metrics: tuple[str, ...]) -> dict[tuple, dict[str, float]]:
    """Rows of a table of the paper by their keys (numbers as float), in the paper's order; NaN where it has no value.

    Raises InputError when the file is missing, lacks a column, or holds something that is not a number where one is
    expected.
    """
    rows = read_csv(path, keys + metrics)
    return {
        tuple(number(row, key, path) if key in ("n", "beta") else row[key] for key in keys): {
            metric: number(row, metric, path) for metric in metrics
        }
        for row in rows
    }


def read_rows(folder: str | Path) -> list[PrintedRow]:
    """The trained methods of Tables 2, 5, 6, 7 and 8. Raises InputError naming file and column."""
    rows = []
    for spec in PRINTED.values():
        path = Path(folder) / spec.paper
        for (block, method), values in read_paper(path, spec.keys, METRICS).items():
            if method == SFT:
                continue
            if any(math.isnan(value) for value in values.values()):
                raise InputError(path, f"{block}, {method}: a value is missing")
            name = f"{spec.label} = {block:g}" if spec.printed_on else block
            rows.append(PrintedRow(spec.name, name, spec.printed_on or block, method, values))
    return rows


def read_quoted(folder: str | Path) -> dict[str, dict[str, str]]:
    """Numbers that the paper's text quotes, by name. Raises InputError when one that is checked is missing."""
    path = Path(folder) / "quoted.csv"
    rows = {row["name"]: row for row in read_csv(path, ("name", "section", "value", "unit", "says"))}
    needed = ("gain_rm_dpo", "gain_rm_rdpo", "time_saved", "mean_gain_finetuning", "mean_gain_transfer", "responses")
    for name in needed:
        if name not in rows:
            raise InputError(path, f"has no row {name}")
        if math.isnan(number(rows[name], "value", path)):
            raise InputError(path, f"{name} has no value")
    return rows
