"""The audit for readers: its checks, the length gaps that the paper's margins imply, and those of real pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from hps.evidence.audit import VERDICTS, Check, commonest_gap, distinct, interval_text
from hps.evidence.metrics import VARIANTS
from hps.evidence.paper import GAP_ROUNDING, PrintedRow
from hps.evidence.render import TOY, Cell, Column, Page, Table, number
from hps.evidence.results import csv_text, plain
from hps.evidence.statistics import CONFIDENCE, Estimate

WHAT = (
    "What the paper's own numbers (paper/*.csv, as printed) say about each other and about its text. Nothing here "
    "depends on a training of ours; only the pairs of check 7 are measured by this workflow."
)


def to_csv(checks: Sequence[Check]) -> str:
    """CSV of the checks."""
    return csv_text(list(asdict(checks[0])), map(asdict, checks))


def gaps_to_csv(rows: Sequence[PrintedRow], measured: Mapping[str, Mapping[str, Estimate]]) -> str:
    """CSV of the implied gap of every row of the paper, then of the pairs measured here, in tokens."""
    records = []
    for row in rows:
        lo, hi = (f"{row.gap + side * GAP_ROUNDING:.1f}" for side in (-1, 1))
        own = {name: getattr(row, name) for name in ("table", "block", "test_set", "method")}
        records.append({"source": "paper", **own, "length_gap": f"{row.gap:.1f}", "lo": lo, "hi": hi})
    for test_set, pairs in measured.items():
        for pair, estimate in pairs.items():
            values = dict(zip(("length_gap", "lo", "hi"), map(plain, estimate[:3]), strict=True))
            own = {"source": "ours", "block": f"{pair} pair", "test_set": test_set, "prompts": estimate.prompts}
            records.append(own | values)
    return csv_text(("source", "table", "block", "test_set", "method", "length_gap", "lo", "hi", "prompts"), records)


def to_page(
    checks: Sequence[Check],
    rows: Sequence[PrintedRow],
    measured: Mapping[str, Mapping[str, Estimate]],
    world: str,
    names: Mapping[str, str],
) -> Page:
    """The page: all checks, then the length gaps by test set."""
    columns = [Column(""), Column("Check"), Column("The paper says"), Column("Its numbers say"), Column("Verdict")]
    body = [
        [Cell(one.number), Cell(one.topic), Cell(one.says), Cell(one.recomputes), verdict_cell(one.verdict)]
        for one in checks
    ]
    gap_columns = [
        Column("Test set"),
        *(Column(name, "Implied by the paper's margins (tokens)", True) for name in ("commonest", "rows", "range")),
        *(Column(f"{pair} pairs", "Measured here (tokens)", True) for pair in VARIANTS["margin_pair"]),
    ]
    gap_rows = []
    for test_set in dict.fromkeys(row.test_set for row in rows):
        own = distinct([row for row in rows if row.test_set == test_set])
        gap, agreeing = commonest_gap(own)
        low, high = min(row.gap for row in own), max(row.gap for row in own)
        cells = [number(gap, 1), f"{agreeing} of {len(own)}", f"{number(low, 1)} to {number(high, 1)}"]
        pairs = measured.get(test_set, {})
        cells += [
            interval_text(pairs[pair]) if pair in pairs else number(float("nan")) for pair in VARIANTS["margin_pair"]
        ]
        gap_rows.append([Cell(names.get(test_set, test_set)), *map(Cell, cells)])
    tables = [
        Table(columns, body, header=1, cards=True),
        Table(gap_columns, gap_rows, "Length gap |y_1| - |y_2| of the test pairs", cards=True),
    ]
    legend = [
        "✓ consistent: the numbers agree. ✗ inconsistent: they contradict the text or each other. ? unexplained: the "
        "number follows from nothing printed or measured here, as far as was tried. ! doubtful: possible, but "
        "probably a slip. ○ open: cannot be decided here.",
        f"Brackets: {CONFIDENCE:.0%} interval over prompts. Human pair: the data set's chosen and rejected "
        "reply, for every prompt that the test prompts are drawn from. Annotated pair: the best and the worst, by the "
        "reward model, of the responses generated for a test prompt; a dash where none have been generated. Lengths in "
        "tokens of this run's policy, so they depend on its tokenizer, and for annotated pairs on generator, its limit "
        "of length and reward model.",
    ]
    return Page("The paper against itself", tables, [*([TOY_PAIRS] if world == "toy" else []), WHAT], legend)


TOY_PAIRS = f"{TOY} On this page that concerns the measured pairs alone: the rest is the paper's own numbers."


def verdict_cell(verdict: str) -> Cell:
    return Cell(f"{VERDICTS[verdict]}\N{NO-BREAK SPACE}{verdict}")
