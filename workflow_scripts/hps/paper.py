"""The paper's own tables (arXiv 2502.14400v5), read from `paper/*.csv`."""

from __future__ import annotations

from pathlib import Path

from hps.results import number, read_csv


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
