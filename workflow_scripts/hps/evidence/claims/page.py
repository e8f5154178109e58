"""Claims for readers: a list with verdicts, each comparison behind it, and the same as CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hps.evidence.claims import forest
from hps.evidence.claims.verdicts import (
    CONTRADICTED,
    NO_DIFFERENCE,
    OPEN,
    SUPPORTED,
    VERDICTS,
    Effect,
    Level,
    Result,
    Statement,
)
from hps.evidence.metrics import METRICS
from hps.evidence.render import NO_VALUE, Below, Cell, Column, Page, Table, interval, number, world_note
from hps.evidence.statistics import CONFIDENCE, POWER

Pair = tuple[Result, Result]
"""The same claim on the paper's numbers and on ours."""


def to_page(pairs: Sequence[Pair], test: Level, world: str) -> Page:
    """The lists of claims, then every comparison."""
    return Page(
        "Claims of the paper", [*lists(pairs), _comparisons(pairs)], [*world_note(world), summary(pairs)], _legend(test)
    )


def lists(pairs: Sequence[Pair]) -> list[Table]:
    """A table a group of claims, in the order in which the groups first occur."""
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(pair[1].claim.group, []).append(pair)
    return [_claims(group.capitalize(), of_group) for group, of_group in groups.items()]


def _claims(title: str, pairs: Sequence[Pair]) -> Table:
    """A row a claim: what the paper's numbers say, what ours say, the effect that decides, the verdict."""
    columns = [
        Column("Claim"),
        Column("Paper's own numbers say"),
        Column("Ours say"),
        Column(f"Effect that decides [{CONFIDENCE:.0%} interval]"),
        Column("p (Holm)", numeric=True),
        Column("Seeds", numeric=True),
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
                Cell(str(ours.seeds) if ours.seeds else NO_VALUE),
                Cell(_marked(ours.verdict)),
            ]
        )
    return Table(columns, rows, title, cards=True, below=[_opened(ours) for _, ours in pairs])


def _opened(result: Result) -> Below | None:
    """What a claim's row opens to: its comparisons as a figure."""
    if not result.effects:
        return None
    count = len(result.effects)
    summary = "Its comparison as a figure" if count == 1 else f"Its {count} comparisons as a figure"
    return Below(summary, forest.caption(result), forest.figure(result))


def of_the_paper(pairs: Sequence[Pair]) -> str:
    """How many claims have each verdict on the paper's own numbers."""
    count = Counter(theirs.verdict for theirs, _ in pairs)
    return (
        f"{len(pairs)} claims. The paper's own numbers support {count[SUPPORTED]}, contradict {count[CONTRADICTED]} "
        f"and leave {count[OPEN]} open."
    )


def summary(pairs: Sequence[Pair]) -> str:
    """How many claims have each verdict, on either body of numbers, and how many seeds decided ours."""
    ours = [own for _, own in pairs]
    count = Counter(own.verdict for own in ours)
    text = (
        f"{of_the_paper(pairs)} Ours support {count[SUPPORTED]}, contradict {count[CONTRADICTED]}, show no difference "
        f"in {count[NO_DIFFERENCE]} and leave {count[OPEN]} open."
    )
    seeds = sorted({result.seeds for result in ours if result.verdict != OPEN and result.seeds})
    if seeds:
        text += f" Ours are decided by {' or '.join(map(str, seeds))} training seeds where seeds matter."
    one = [result.of_policies for result in ours if result.verdict == OPEN and result.one_seed]
    if one:
        text += (
            f" {len(one)} rest on one training seed and so stay open: of the trained policies at hand alone, "
            f"{one.count(SUPPORTED)} hold, {one.count(CONTRADICTED)} do not, and {one.count(NO_DIFFERENCE)} make no "
            "difference."
        )
    return text


def to_csv(pairs: Sequence[Pair]) -> str:
    """CSV, a row a claim; a cell is empty where there is no value."""
    records = []
    for theirs, ours in pairs:
        decisive = ours.decisive
        records.append(
            {
                **{name: getattr(ours.claim, name) for name in NAMED},
                "paper_verdict": theirs.verdict,
                "paper_holds": theirs.holding,
                "paper_comparisons": len(theirs.effects),
                "verdict": ours.verdict,
                "verdict_of_these_policies": ours.of_policies if ours.verdict == OPEN and ours.one_seed else "",
                "reason": ours.reason,
                "holds": ours.holding,
                "comparisons": len(ours.effects),
                "missing": ours.missing,
                "p": _plain(ours.p),
                "p_holm": _plain(ours.p_holm),
                "decisive": decisive.comparison.label if decisive else "",
                **{name: _plain(getattr(decisive, name)) if decisive else "" for name in EFFECT},
                "smallest_detectable": _plain(decisive.smallest(ours.level)) if decisive else "",
                "units": decisive.units if decisive else "",
                "seeds": ours.seeds or "",
            }
        )
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


EFFECT = ("mean", "lo", "hi")
NAMED = ("id", "group", "section", "says", "table", "kind")


def to_json(pairs: Sequence[Pair], test: Level, world: str) -> dict[str, Any]:
    """Everything: claims with their verdicts, and each comparison with its effect, intervals and p-values.

    Null where there is no number, also for an end of an interval that goes on for ever.
    """
    return {
        "world": world,
        "alpha": test.alpha,
        "claims": [
            {
                **{name: getattr(ours.claim, name) for name in NAMED},
                "smallest": ours.claim.smallest,
                "paper": _record(theirs),
                "ours": _record(ours),
            }
            for theirs, ours in pairs
        ],
    }


def _record(result: Result) -> dict[str, Any]:
    return {
        "verdict": result.verdict,
        "of_policies": result.of_policies,
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
                "by_seed": list(effect.by_seed),
                "smallest_detectable": _null(effect.smallest(result.level)),
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
        Column("Could have found", numeric=True),
        Column("Seeds", numeric=True),
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
    found = own.smallest(result.level) if own else math.nan
    return [
        Cell(result.claim.id),
        Cell(label or result.claim.details.get("metric", "")),
        Cell(" and ".join(_must(statement) for statement in (own or paper).statements)),
        Cell(number(paper.mean)) if paper else nothing,
        interval(own.mean, own.lo, own.hi) if own else nothing,
        Cell(NO_VALUE if math.isnan(found) else f"{found:.2g}"),
        Cell(str(own.seeds)) if own and own.seeds else nothing,
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


def _legend(test: Level) -> list[str]:
    return [
        f"{VERDICTS[SUPPORTED]} {SUPPORTED}: every comparison of the claim holds. {VERDICTS[CONTRADICTED]} "
        f"{CONTRADICTED}: at least one goes the other way. {VERDICTS[NO_DIFFERENCE]} {NO_DIFFERENCE}: all are "
        "surely smaller than the smallest effect of interest that paper/claims.yaml fixes; where it is clear which way "
        f"they go, the reason says so. {VERDICTS[OPEN]} {OPEN}: none of these, with what is lacking, seeds or prompts. "
        "The paper prints no intervals, so its own numbers are taken as they stand.",
        "A claim is about methods, and a method is trained with a seed: with one seed, verdict and p hold for these "
        "trained policies alone, and the claim stays open. A claim in which a loss was trained on fewer responses than "
        "the one beside it is not evaluated.",
        "The effect that decides is that of the comparison that is furthest from supporting the claim, that is nearest "
        "to the smallest effect of interest where there is no difference, or that "
        f"contradicts it. Intervals: {CONFIDENCE:.0%}, over training seeds and prompts (of times over trainings, of "
        "theorems over repetitions), paired between methods.",
        "p: of the verdict, of an open claim the smallest of the three, corrected by Holm over the verdicts of all "
        f"claims that could be tested, of each of which at most two are wrong. A verdict needs at most {test.alpha:g}. "
        f"Could have found: the smallest effect that the comparison's test finds with {POWER:.0%} power "
        f"at the level {test.alpha:g} divided by the number of claims that could be tested.",
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
    return value if math.isfinite(value) else None
