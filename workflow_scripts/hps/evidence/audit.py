"""The paper against itself: what its tables (`paper/*.csv`) say about each other and about the text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import mean, median

from hps.evidence.paper import GAP_ROUNDING, ROUNDING, PrintedRow, read_quoted, read_rows
from hps.evidence.render import number as shown
from hps.evidence.statistics import Estimate
from hps.evidence.training_time import read_paper_hours

CONSISTENT, INCONSISTENT, UNEXPLAINED, DOUBTFUL, OPEN = "consistent", "inconsistent", "unexplained", "doubtful", "open"
VERDICTS = {
    CONSISTENT: "✓",
    INCONSISTENT: "✗",
    UNEXPLAINED: "?",
    DOUBTFUL: "!",
    OPEN: "○",
}
"""What a check can find, each with a mark that does without colour."""

MARGINS = {"rm_dpo": "RM_DPO", "rm_rdpo": "RM_R-DPO"}
SLIP = 10
"""A cell is out of line when it lies this many times the span of its column's other cells outside them."""


@dataclass(frozen=True)
class Check:
    """One check: what the paper says, what recomputes from its numbers, and the verdict (a key of VERDICTS)."""

    number: str
    topic: str
    says: str
    recomputes: str
    verdict: str


def distinct(rows: Sequence[PrintedRow]) -> list[PrintedRow]:
    """Rows without those that repeat one of another table (same test set, method and numbers)."""
    seen, kept = {}, []
    for row in rows:
        key = (row.test_set, row.method, *row.values.values())
        if seen.setdefault(key, row.table) == row.table:
            kept.append(row)
    return kept


def commonest_gap(rows: Sequence[PrintedRow]) -> tuple[float, int]:
    """The most frequent implied gap (tokens, one decimal), and how many rows agree with it within rounding."""
    gaps = Counter(round(row.gap, 1) for row in rows)
    most = max(gaps.values())
    best = max((gap for gap, count in gaps.items() if count == most), key=lambda gap: (_agreeing(rows, gap), gap))
    return best, _agreeing(rows, best)


def _agreeing(rows: Sequence[PrintedRow], gap: float) -> int:
    return sum(abs(row.gap - gap) <= GAP_ROUNDING + 1e-6 for row in rows)


def check(
    folder: str | Path, measured: Mapping[str, Mapping[str, Estimate]], world: str, names: Mapping[str, str]
) -> list[Check]:
    """All checks, in the order of the report.

    Args:
        folder: of the paper's tables.
        measured: length gaps of the test pairs as the workflow has them, by data set and pair.
        world: `toy` if those are of the toy world, which says nothing about the paper's.
        names: how to show a data set.

    Raises:
        InputError: a file or column of the paper's numbers is missing.
    """
    rows, quoted = read_rows(folder), read_quoted(folder)
    hours = {loss: mean for loss, (mean, _) in read_paper_hours(Path(folder) / "training_hours.csv").items()}
    implied = {
        test_set: commonest_gap([row for row in distinct(rows) if row.test_set == test_set])[0]
        for test_set in dict.fromkeys(row.test_set for row in rows)
    }
    return [
        *_one_constant(rows, names),
        *_quoted_gains(rows, quoted, hours, names),
        *_quoted_averages(rows, quoted, names),
        _hps_throughout(rows, names),
        _slips(rows, names),
        _repeated(rows, names),
        _hours(hours, quoted),
        Check(
            "6",
            "Names",
            "EXO-HPS; HPS",
            "the text has EXP-HPS once for EXO-HPS, and the proof of Theorem 1 calls HPS HDR: slips of the pen, "
            "found by reading; no number depends on them",
            DOUBTFUL,
        ),
        *_which_pair(implied, measured, world, names),
    ]


def _one_constant(rows: Sequence[PrintedRow], names: Mapping[str, str]) -> list[Check]:
    checks = []
    for letter, test_set in zip("abcdefgh", dict.fromkeys(row.test_set for row in rows), strict=False):
        own = distinct([row for row in rows if row.test_set == test_set])
        gap, agreeing = commonest_gap(own)
        low, high = min(own, key=lambda row: row.gap), max(own, key=lambda row: row.gap)
        found = (
            f"{agreeing} of {len(own)} rows agree on {gap:.1f} tokens (within ± {GAP_ROUNDING:.1f} of rounding); the "
            f"others imply {low.gap:.1f} ({_where(low, names)}) to {high.gap:.1f} ({_where(high, names)})"
        )
        checks.append(
            Check(
                f"1{letter}",
                f"RM_DPO - RM_R-DPO, {names.get(test_set, test_set)}",
                "Table 1: the difference is 0.01 (|y_1| - |y_2|), so on one test set it is the same for every model",
                found if agreeing < len(own) else f"all {len(own)} rows agree on {gap:.1f} tokens",
                CONSISTENT if agreeing == len(own) else INCONSISTENT,
            )
        )
    return checks


def _quoted_gains(
    rows: Sequence[PrintedRow],
    quoted: Mapping[str, dict[str, str]],
    hours: Mapping[str, float],
    names: Mapping[str, str],
) -> list[Check]:
    table2 = {(row.block, row.method): row.values for row in rows if row.table == "table2"}
    found = []
    for letter, metric in zip("ab", MARGINS, strict=True):
        value = 100 * gain(table2["hh_rlhf", "dpo-hps"][metric], table2["hh_rlhf", "dpo-pl"][metric])
        where = f"DPO-HPS against DPO-PL in {MARGINS[metric]} on {names.get('hh_rlhf', 'hh_rlhf')}, Table 2"
        found.append((f"2{letter}", f"gain_{metric}", value, where))
    found.append(("2c", "time_saved", 100 * (1 - hours["hps"] / hours["pl"]), "(PL - HPS) / PL of the training hours"))
    checks = []
    for number_, name, value, where in found:
        said = float(quoted[name]["value"])
        good = abs(value - said) < 0.01  # rounded or cut off at two decimals
        topic = "Time saved" if name == "time_saved" else f"Gain in {MARGINS[name.removeprefix('gain_')]}"
        checks.append(Check(number_, topic, _says(quoted[name]), f"{value:.2f} %: {where}", _consistent(good)))
    return checks


def gain(value: float, base: float) -> float:
    """Relative improvement of `value` over `base`; of a negative base by its size, as the paper does."""
    return (value - base) / abs(base)


def mean_gains(rows: Sequence[PrintedRow]) -> dict[str, float]:
    """Averages (%) of the gain of HPS that a reader could mean, by description, over the rows of one table."""
    methods = {(row.block, row.method): row.values for row in rows}
    blocks = list(dict.fromkeys(block for block, _ in methods))
    ways: dict[str, Callable[[list[tuple[float, float]]], float]] = {
        "mean of relative gains": lambda both: mean(gain(a, b) for a, b in both),
        "median of relative gains": lambda both: median(gain(a, b) for a, b in both),
        "gain of the means": lambda both: gain(mean(a for a, _ in both), mean(b for _, b in both)),
    }
    found = {}
    for chosen, losses, metrics in product(
        [*([block] for block in blocks), blocks], (["bt"], ["pl"], ["bt", "pl"]), (["rm_dpo"], ["rm_rdpo"], [*MARGINS])
    ):
        both = [
            (methods[block, method][metric], methods[block, f"{method.split('-')[0]}-{loss}"][metric])
            for block, method in methods
            if block in chosen and method.endswith("-hps")
            for loss, metric in product(losses, metrics)
        ]
        for way, average in ways.items():
            what = f"{' and '.join(MARGINS[metric] for metric in metrics)} over {' and '.join(losses).upper()}"
            found[f"{what}, {' and '.join(chosen)}, {way}"] = 100 * average(both)
    return found


def _quoted_averages(
    rows: Sequence[PrintedRow], quoted: Mapping[str, dict[str, str]], names: Mapping[str, str]
) -> list[Check]:
    checks = []
    for letter, table, kind in (("d", "table2", "finetuning"), ("e", "table5", "transfer")):
        averages = mean_gains([row for row in rows if row.table == table])
        said = quoted[f"mean_gain_{kind}"]
        near = min(averages, key=lambda name: abs(averages[name] - float(said["value"])))
        good = abs(averages[near] - float(said["value"])) <= 0.5
        over_bt = "; ".join(
            f"{averages[f'RM_DPO over BT, {block}, mean of relative gains']:.0f} % on {names.get(block, block)}"
            for block in dict.fromkeys(row.block for row in rows if row.table == table)
        )
        found = f"the mean gain in RM_DPO over BT is {over_bt}. Of {len(averages)} averages tried, the nearest: "
        described = near
        for block, name in names.items():
            described = described.replace(block, name)
        found += f"{averages[near]:.1f} % ({described})"
        checks.append(
            Check(
                f"2{letter}",
                f"Average gain, {kind.replace('finetuning', 'fine-tuning')}",
                _says(said),
                found,
                _unexplained(good),
            )
        )
    return checks


def _hps_throughout(rows: Sequence[PrintedRow], names: Mapping[str, str]) -> Check:
    methods = {(row.table, row.block, row.method): row.values for row in rows}
    compared, exceptions = 0, []
    for (table, block, method), values in methods.items():
        parameterization, loss = method.split("-")
        for other, metric in product(("bt", "pl"), MARGINS) if loss == "hps" else ():
            base = methods.get((table, block, f"{parameterization}-{other}"))
            if base is not None:
                compared += 1
                if values[metric] <= base[metric]:
                    exceptions.append(
                        f"Table {table[-1]}, {names.get(block, block)}: {method.upper()} below "
                        f"{parameterization.upper()}-{other.upper()} in {MARGINS[metric]} "
                        f"({values[metric]:.3f} against {base[metric]:.3f})"
                    )
    found = f"above in {compared - len(exceptions)} of {compared} comparisons (Tables 2, 5 to 8, both margins)"
    return Check(
        "3",
        "HPS against BT and PL",
        "HPS has larger reward margins than the baselines throughout",
        "; ".join([found, *exceptions]),
        INCONSISTENT if exceptions else CONSISTENT,
    )


def _slips(rows: Sequence[PrintedRow], names: Mapping[str, str]) -> Check:
    """Cells of the ablations' BLEU and reward that lie far outside what the rest of their column spans."""
    found = []
    for table, metric in product(("table6", "table7", "table8"), ("bleu", "reward")):
        column = [row for row in rows if row.table == table]
        for row in column:
            rest = [other.values[metric] for other in column if other is not row]
            away = max(min(rest) - row.values[metric], row.values[metric] - max(rest))
            if away > SLIP * (max(rest) - min(rest) + 2 * ROUNDING):
                found.append(
                    f"{_where(row, names)}: {metric} {row.values[metric]:.3f}, the other {len(rest)} of its column "
                    f"{min(rest):.3f} to {max(rest):.3f}"
                )
    says = f"BLEU and reward hardly depend on n or β; no cell lies {SLIP} times the span of its column outside it"
    return Check("4", "Cells out of line", says, "; ".join(found) or "none does", DOUBTFUL if found else CONSISTENT)


def _repeated(rows: Sequence[PrintedRow], names: Mapping[str, str]) -> Check:
    """The ablations share a run with the grid: n = 100 and β = 0.1 are Tables 2 and 5 over again."""
    grid = {(row.table, row.block, row.method): row.values for row in rows}
    shared = {
        ("table6", "n = 100"): ("table2", "hh_rlhf"),
        ("table7", "n = 100"): ("table5", "pku_saferlhf"),
        ("table8", "β = 0.1"): ("table2", "hh_rlhf"),
    }
    both = [
        (row, grid[(*shared[row.table, row.block], row.method)]) for row in rows if (row.table, row.block) in shared
    ]
    differing = [_where(row, names) for row, values in both if row.values != values]
    return Check(
        "4b",
        "Runs in two tables",
        "Tables 6 and 7 at n = 100 and Table 8 at β = 0.1 show runs of Tables 2 and 5",
        f"{len(both) - len(differing)} of {len(both)} rows have the same four numbers"
        + (f"; not {', '.join(differing)}" if differing else ""),
        _consistent(not differing),
    )


def _hours(hours: Mapping[str, float], quoted: Mapping[str, dict[str, str]]) -> Check:
    ratio, n = hours["pl"] / hours["bt"], float(quoted["responses"]["value"])
    return Check(
        "5",
        "Training time of PL",
        f"PL trains on all {n:g} responses where BT trains on 2, so about {n / 2:g} times as much text",
        f"{hours['pl']:g} h against {hours['bt']:g} h: {ratio:.1f} times, which is what about {2 * ratio:.0f} "
        "responses would cost; the PL runs probably used so few, or computed a prompt once for all its responses",
        DOUBTFUL if n / 2 > 2 * ratio else CONSISTENT,
    )


def _which_pair(
    implied: Mapping[str, float], measured: Mapping[str, Mapping[str, Estimate]], world: str, names: Mapping[str, str]
) -> list[Check]:
    checks = []
    for letter, test_set in zip("abcdefgh", implied, strict=False):
        own = measured.get(test_set, {})
        gap, fits, found = implied[test_set], [], []
        for pair, estimate in own.items():
            found.append(f"{pair} pairs {interval_text(estimate)} tokens ({estimate.prompts:,} prompts)")
            if estimate.lo <= gap <= estimate.hi:
                fits.append(pair)
        if world == "toy":
            conclusion, verdict = "a toy world's lengths say nothing about the paper's", OPEN
        elif not own or any(math.isnan(estimate.lo) for estimate in own.values()):
            conclusion, verdict = "too few pairs were measured to say", OPEN
        elif fits:
            conclusion, verdict = f"the paper can have used {' or '.join(fits)} pairs", CONSISTENT
        elif "annotated" in own:
            conclusion, verdict = "neither fits; annotated pairs would be others with the paper's models", UNEXPLAINED
        else:
            conclusion, verdict = "not these human pairs, then; annotated pairs have not been made here", OPEN
        checks.append(
            Check(
                f"7{letter}",
                f"Which pair, {names.get(test_set, test_set)}",
                f"not said; its margins imply that y_1 is {gap:.1f} tokens longer than y_2 on average",
                "; ".join([*found, conclusion]),
                verdict,
            )
        )
    return checks


def interval_text(estimate: Estimate) -> str:
    """`mean [lo, hi]`, in tokens."""
    if math.isnan(estimate.lo):
        return shown(estimate.mean, 1)
    return f"{shown(estimate.mean, 1)} [{shown(estimate.lo, 1)}, {shown(estimate.hi, 1)}]"


def _where(row: PrintedRow, names: Mapping[str, str]) -> str:
    return f"Table {row.table[-1]}, {names.get(row.block, row.block)}, {row.method.upper()}"


def _says(quoted: Mapping[str, str]) -> str:
    return f"{quoted['section']}: {quoted['value']} {quoted['unit']}, {quoted['says']}"


def _consistent(good: bool) -> str:
    return CONSISTENT if good else INCONSISTENT


def _unexplained(good: bool) -> str:
    return CONSISTENT if good else UNEXPLAINED
