"""Claims for readers: a list with verdicts, each comparison behind it, and the same as CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from hps.evidence.claims.verdicts import CONTRADICTED, OPEN, SUPPORTED, VERDICTS, Effect, Level, Result, Statement
from hps.evidence.metrics import METRICS
from hps.evidence.render import NO_VALUE, Cell, Column, Page, Table, interval, number, world_note
from hps.evidence.statistics import CONFIDENCE

Pair = tuple[Result, Result]
"""The same claim on the paper's numbers and on ours."""


def to_page(pairs: Sequence[Pair], test: Level, world: str) -> Page:
    """The list of claims, then every comparison."""
    return Page("Claims of the paper", [claims_table(pairs), _comparisons(pairs)], _notes(pairs, world), _legend(test))


def claims_table(pairs: Sequence[Pair]) -> Table:
    """A row a claim: what the paper's numbers say, what ours say, the effect that decides, the verdict."""
    columns = [
        Column("Claim"),
        Column("Paper's own numbers say"),
        Column("Ours say"),
        Column(f"Effect that decides [{CONFIDENCE:.0%} interval]"),
        Column("p (Holm)", numeric=True),
        Column("Verdict on ours"),
    ]
    rows = []
    for theirs, ours in pairs:
        rows.append(
            [
                Cell(ours.claim.says, ours.claim.section),
                Cell(_marked(theirs.verdict), theirs.reason),
                Cell(ours.reason),
                _decisive(ours),
                Cell(_p(ours.p_holm)),
                Cell(_marked(ours.verdict)),
            ]
        )
    return Table(columns, rows, cards=True)


def summary(pairs: Sequence[Pair]) -> str:
    """How many claims are supported, contradicted and open, on either body of numbers."""
    parts = []
    for name, results in (("The paper's own numbers", [a for a, _ in pairs]), ("ours", [b for _, b in pairs])):
        counts = [sum(result.verdict == verdict for result in results) for verdict in VERDICTS]
        parts.append(f"{name} support {counts[0]}, contradict {counts[1]} and leave {counts[2]} open")
    return f"{len(pairs)} claims. {'; '.join(parts)}."


def to_csv(pairs: Sequence[Pair]) -> str:
    """CSV, a row a claim; a cell is empty where there is no value."""
    records = []
    for theirs, ours in pairs:
        decisive = ours.decisive
        records.append(
            {
                **{name: getattr(ours.claim, name) for name in ("id", "section", "says", "table", "kind")},
                "paper_verdict": theirs.verdict,
                "paper_holds": theirs.holding,
                "paper_comparisons": len(theirs.effects),
                "verdict": ours.verdict,
                "reason": ours.reason,
                "holds": ours.holding,
                "comparisons": len(ours.effects),
                "missing": ours.missing,
                "p": _plain(ours.p),
                "p_holm": _plain(ours.p_holm),
                "decisive": decisive.comparison.label if decisive else "",
                **{name: _plain(getattr(decisive, name)) if decisive else "" for name in EFFECT},
                "units": decisive.units if decisive else "",
                "seeds": decisive.seeds if decisive else "",
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


EFFECT = ("mean", "lo", "hi", "seeds_lo", "seeds_hi")


def to_json(pairs: Sequence[Pair], test: Level, world: str) -> dict[str, Any]:
    """Everything: claims with their verdicts, and each comparison with its effect, intervals and p-values."""
    return {
        "world": world,
        "alpha": test.alpha,
        "resamples": test.resamples,
        "claims": [
            {
                **{name: getattr(ours.claim, name) for name in ("id", "section", "says", "table", "kind")},
                "paper": _record(theirs),
                "ours": _record(ours),
            }
            for theirs, ours in pairs
        ],
    }


def _record(result: Result) -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "reason": result.reason,
        "holds": result.holding,
        "missing": result.missing,
        "p": _null(result.p),
        "p_holm": _null(result.p_holm),
        "comparisons": [
            {
                "label": effect.comparison.label,
                "holds": effect.holds,
                **{name: _null(getattr(effect, name)) for name in EFFECT},
                "units": effect.units,
                "seeds": effect.seeds,
                "p_for": [_null(statement.p_for) for statement in effect.statements],
                "p_against": [_null(statement.p_against) for statement in effect.statements],
            }
            for effect in result.effects
        ],
    }


def _comparisons(pairs: Sequence[Pair]) -> Table:
    columns = [
        Column("Claim"),
        Column("Comparison"),
        Column("Must be"),
        Column("paper", "Effect", True),
        Column("ours", "Effect", True),
        Column("over seeds", "Effect", True),
        Column("Units", numeric=True),
        Column("p", numeric=True),
        Column("Holds", numeric=False),
    ]
    rows = []
    for theirs, ours in pairs:
        paper = {effect.comparison.label: effect for effect in theirs.effects}
        own = {effect.comparison.label: effect for effect in ours.effects}
        for label in dict.fromkeys([*paper, *own]):
            rows.append(_row(ours, label, paper.get(label), own.get(label)))
    return Table(columns, rows, "Every comparison", header=1, block=0)


def _row(result: Result, label: str, paper: Effect | None, own: Effect | None) -> list[Cell]:
    nothing = Cell(NO_VALUE)
    seeds = interval(math.nan, own.seeds_lo, own.seeds_hi).detail if own else ""
    return [
        Cell(result.claim.id),
        Cell(label or result.claim.details.get("metric", "")),
        Cell(" and ".join(_must(statement) for statement in (own or paper).statements)),
        Cell(number(paper.mean)) if paper else nothing,
        interval(own.mean, own.lo, own.hi) if own else nothing,
        Cell(seeds or NO_VALUE),
        Cell(str(own.units)) if own and own.units else nothing,
        Cell(_p(max(statement.p_for for statement in own.statements))) if own else nothing,
        Cell({True: "yes", False: "no", None: "tie"}[own.holds]) if own else nothing,
    ]


def _must(statement: Statement) -> str:
    return f"{'above' if statement.sign > 0 else 'below'} {statement.threshold:.4g}"


def _decisive(result: Result) -> Cell:
    effect = result.decisive
    if effect is None:
        return Cell(NO_VALUE)
    operand = effect.comparison.terms[0][0]
    metric = str(operand.cell.get("quantity", operand.metric))
    name = METRICS[metric].label if metric in METRICS else metric.replace("_", " ")
    shown = interval(effect.mean, effect.lo, effect.hi)
    kind = {"ratio_at_most": " ratio", "monotone": " change", "at_least": "", "at_most": ""}
    what = name + kind.get(result.claim.kind, " difference")
    where = f": {effect.comparison.label}" if effect.comparison.label else ""
    return Cell(f"{shown.text} {shown.detail}".strip(), what + where)


def _notes(pairs: Sequence[Pair], world: str) -> list[str]:
    return [*world_note(world), summary(pairs)]


def _legend(test: Level) -> list[str]:
    return [
        f"{VERDICTS[SUPPORTED]} {SUPPORTED}: every comparison of the claim holds, with intervals that agree. "
        f"{VERDICTS[CONTRADICTED]} {CONTRADICTED}: at least one comparison goes the other way, likewise. "
        f"{VERDICTS[OPEN]} {OPEN}: neither, or not enough numbers. The paper prints no intervals, so its own numbers "
        "are taken as they stand.",
        "The effect that decides is that of the comparison that is furthest from supporting the claim, or that "
        f"contradicts it. Intervals: {CONFIDENCE:.0%} bootstrap over prompts (of trainings' times: over trainings), "
        f"paired between methods, {test.resamples} resamples; seeds are averaged first, and with several seeds the "
        "interval over seeds must agree too.",
        "p: twice the smaller of two p-values, that of the claim (the largest of its comparisons' sign-flip tests) and "
        "that of its negation (the smallest, times their number), corrected by Holm over all claims that could be "
        f"tested. A verdict needs at most {test.alpha:g}.",
    ]


def _marked(verdict: str) -> str:
    return f"{VERDICTS[verdict]}\N{NO-BREAK SPACE}{verdict}"


def _p(value: float) -> str:
    if math.isnan(value):
        return NO_VALUE
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _plain(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"


def _null(value: float) -> float | None:
    return None if math.isnan(value) else value
