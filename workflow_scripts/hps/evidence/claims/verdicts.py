"""From claims and evidence to verdicts: effects with intervals, p-values, Holm's correction.

A claim is a conjunction of statements "effect > threshold" (or <). It is *supported* when every statement holds: its
p-value is the largest of theirs (an intersection-union test needs no correction). It is *contradicted* when one of m
statements fails: m times the smallest p-value of the reverse. Twice the smaller of the two is the claim's p-value, and
Holm's method corrects it over all claims that could be tested.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist

import numpy as np

from hps.evidence.claims.evidence import Evidence, Measured
from hps.evidence.claims.vocabulary import Claim, Comparison, comparisons
from hps.evidence.statistics import CONFIDENCE, holm, mean_interval, sign_flip_p

SUPPORTED, CONTRADICTED, OPEN = "supported", "contradicted", "open"
VERDICTS = {SUPPORTED: "✓", CONTRADICTED: "✗", OPEN: "○"}
"""What can be said of a claim, each with a mark that does without colour."""
ROUNDING = 1e-9
"""0.324 - 0.314 is not quite 0.010 in binary."""


@dataclass(frozen=True)
class Level:
    """How hard the verdict is on our numbers."""

    alpha: float = 0.05
    resamples: int = 20000
    seed: int = 0


@dataclass(frozen=True)
class Statement:
    """`sign * (effect - threshold) > 0`, `strict` or also where it is 0; `units` holds the left side unit by unit."""

    sign: int
    threshold: float
    strict: bool
    units: np.ndarray  # (units,), or empty where only a mean and perhaps an interval are known
    margin: float  # sign * (mean effect - threshold)
    error: float = math.nan  # standard error of the margin where it comes from a given interval
    count: int = 0  # prompts behind that interval, where known
    p_for: float = math.nan
    p_against: float = math.nan

    @property
    def holds(self) -> bool | None:
        """Whether the numbers as they stand agree; None for a tie that decides nothing."""
        if abs(self.margin) <= ROUNDING:
            return None if self.strict else True
        return self.margin > 0


@dataclass(frozen=True)
class Effect:
    """One comparison evaluated: its effect with an interval over units and one over seeds, and what must hold of it."""

    comparison: Comparison
    mean: float
    lo: float
    hi: float
    seeds_lo: float
    seeds_hi: float
    units: int
    seeds: int
    statements: tuple[Statement, ...]

    @property
    def holds(self) -> bool | None:
        """Whether every statement agrees with the numbers as they stand, uncertainty aside; None: a tie."""
        found = [statement.holds for statement in self.statements]
        return False if False in found else None if None in found else True

    @property
    def tested(self) -> bool:
        return not any(math.isnan(statement.p_for) for statement in self.statements)

    def beyond(self, statement: Statement, side: int) -> bool:
        """Whether the whole interval, over units and over seeds, lies where the statement holds (side 1) or fails."""
        ends = [self.lo, self.hi] + ([self.seeds_lo, self.seeds_hi] if self.seeds > 1 else [])
        return all(side * statement.sign * (end - statement.threshold) > 0 for end in ends)


@dataclass(frozen=True)
class Result:
    """A claim on one body of evidence."""

    claim: Claim
    effects: tuple[Effect, ...]
    missing: int  # comparisons without numbers
    absent: str = ""  # why there are no numbers at all
    verdict: str = OPEN
    reason: str = ""
    p: float = math.nan
    p_holm: float = math.nan
    decisive: Effect | None = field(default=None)

    @property
    def holding(self) -> int:
        """Comparisons whose numbers agree with the claim as they stand."""
        return sum(effect.holds is True for effect in self.effects)


def evaluate(claim: Claim, evidence: Evidence, test: Level) -> Result:
    """The claim's comparisons with effects and intervals; no verdict yet."""
    absent = evidence.why_absent(claim.table)
    effects, missing = [], 0
    for comparison in [] if absent else comparisons(claim, lambda column: evidence.values(claim.table, column)):
        effect = _effect(claim, comparison, evidence, test)
        missing += effect is None
        effects += [effect] if effect else []
    return Result(claim, tuple(effects), missing, absent)


def judge_as_printed(result: Result) -> Result:
    """Verdict on numbers without uncertainty (the paper's): a claim holds when every comparison does."""
    if not result.effects:
        return replace(result, reason=result.absent or "no numbers")
    found = [effect.holds for effect in result.effects]
    worst = min(result.effects, key=lambda effect: min(statement.margin for statement in effect.statements))
    reason = f"holds in {result.holding} of {len(found)}"
    if False in found:
        return replace(result, verdict=CONTRADICTED, reason=reason, decisive=worst)
    if result.missing or None in found:
        reason = f"{result.missing} without numbers" if result.missing else "a tie"
        return replace(result, reason=reason, decisive=worst)
    return replace(result, verdict=SUPPORTED, reason=reason, decisive=worst)


def judge(results: Sequence[Result], test: Level) -> list[Result]:
    """Verdicts on numbers with uncertainty, corrected over all claims that can be tested.

    A claim is supported or contradicted only if its corrected p-value is at most `test.alpha` and the intervals agree
    with it: of every comparison, or of the one that contradicts. All else is open, and so is a claim that holds as far
    as it was measured but has comparisons without numbers.
    """
    tested = [result for result in map(_with_p, results) if not math.isnan(result.p)]
    adjusted = dict(zip([r.claim.id for r in tested], holm([r.p for r in tested]), strict=True))
    by_id = {result.claim.id: result for result in tested}
    return [_verdict(by_id.get(r.claim.id, r), adjusted.get(r.claim.id, math.nan), test.alpha) for r in results]


def _with_p(result: Result) -> Result:
    statements = [s for effect in result.effects if effect.tested for s in effect.statements]
    if not statements:
        return result
    p_for = 1.0 if _incomplete(result) else max(s.p_for for s in statements)
    p_against = min(1.0, len(statements) * min(s.p_against for s in statements))
    return replace(result, p=min(1.0, 2 * min(p_for, p_against)))


def _incomplete(result: Result) -> bool:
    return result.missing > 0 or not all(effect.tested for effect in result.effects)


def _verdict(result: Result, p_holm: float, alpha: float) -> Result:
    if math.isnan(p_holm):
        why = "too few values to test" if result.effects else result.absent or "no numbers"
        return replace(result, reason=why)
    pairs = [(effect, s) for effect in result.effects if effect.tested for s in effect.statements]
    weakest, _ = max(pairs, key=lambda pair: (pair[1].p_for, -pair[1].margin))
    broken, statement = min(pairs, key=lambda pair: (pair[1].p_against, pair[1].margin))
    result = replace(result, p_holm=p_holm, decisive=weakest)
    held = f"holds in {result.holding} of {len(result.effects)}"
    if p_holm <= alpha and broken.beyond(statement, -1) and statement.margin < 0:
        return replace(result, verdict=CONTRADICTED, reason=held, decisive=broken)
    if _incomplete(result):
        lacking = result.missing + sum(not effect.tested for effect in result.effects)
        return replace(result, reason=f"{held}, {lacking} without enough numbers")
    if p_holm <= alpha and all(effect.beyond(s, 1) for effect, s in pairs):
        return replace(result, verdict=SUPPORTED, reason=held)
    return replace(result, reason=f"{held}, not decided")


# --- effects ---------------------------------------------------------------------------------------------------------


def _effect(claim: Claim, comparison: Comparison, evidence: Evidence, test: Level) -> Effect | None:
    """The comparison evaluated, or None where one of its numbers is missing."""
    terms = []
    for operands in comparison.terms:
        measured = [evidence.measure(claim.table, operand) for operand in operands]
        if any(one is None for one in measured):
            return None
        terms.append(measured)
    if claim.kind == "ratio_at_most":
        return _ratio(claim, comparison, *_paired(*terms[0]), test)
    combined = [_difference(*_paired(*term)) if len(term) == 2 else term[0] for term in terms]
    paired = evidence.measure(claim.table, comparison.paired) if comparison.paired else None
    effect = paired or (combined[0] if len(combined) == 1 else _average(combined))
    lo, hi, seeds_lo, seeds_hi = _intervals(effect, test)
    statements = _with_tests([_statement(effect, *how) for how in _statements(claim, terms[0])], test)
    units = effect.values.shape[1] if effect.values is not None else effect.count
    return Effect(comparison, effect.mean, lo, hi, seeds_lo, seeds_hi, units, len(effect.seeds), tuple(statements))


def _statements(claim: Claim, first_term: Sequence[Measured]) -> list[tuple[int, float, bool]]:
    """What a kind asks of the effect: (sign, threshold, strict)."""
    details = claim.details
    if claim.kind == "greater":
        return [(1, details.get("margin", 0.0), True)]
    if claim.kind == "monotone":
        return [(1 if details["direction"] == "rising" else -1, 0.0, True)]
    if claim.kind == "within":
        tolerance, base = details["tolerance"], first_term[-1].values
        if "tolerance_sd" in details and base is not None:
            tolerance = details["tolerance_sd"] * float(_over_seeds(base).std())
        return [(-1, tolerance, False), (1, -tolerance, False)]
    return [(1 if claim.kind == "at_least" else -1, details["limit"], False)]


def _statement(effect: Measured, sign: int, threshold: float, strict: bool) -> Statement:
    margin = sign * (effect.mean - threshold)
    if effect.values is not None:
        return Statement(sign, threshold, strict, sign * (_over_seeds(effect.values) - threshold), margin)
    # The interval of a difference of two intervals holds whatever their correlation is.
    error = (effect.hi - effect.lo) / 2 / NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    return Statement(sign, threshold, strict, np.empty(0), margin, error, effect.count)


def _with_tests(statements: Sequence[Statement], test: Level) -> list[Statement]:
    """p-values: by sign flips over units; where only an interval is known, by the normal distribution."""
    flipped = sign_flip_p([s.units for s in statements], resamples=test.resamples, seed=test.seed)
    tested = []
    for statement, (p_for, p_against) in zip(statements, flipped, strict=True):
        if len(statement.units) == 0 and statement.error > 0:
            above = NormalDist().cdf(statement.margin / statement.error)
            least = 0.5**statement.count if statement.count else 0.0  # as with sign flips, few prompts never decide
            p_for, p_against = max(1 - above, least), max(above, least)
        if len(statement.units) == 1:  # one unit cannot vary
            p_for = p_against = math.nan
        tested.append(replace(statement, p_for=p_for, p_against=p_against))
    return tested


def _ratio(claim: Claim, comparison: Comparison, first: Measured, second: Measured, test: Level) -> Effect:
    """first / second of the means; the statement is tested on limit * second - first, unit by unit."""
    limit, ratio = claim.details["limit"], first.mean / second.mean
    lo = hi = seeds_lo = seeds_hi = math.nan
    units = np.empty(0)
    if first.values is not None and second.values is not None:
        a, b = _over_seeds(first.values), _over_seeds(second.values)
        units = limit * b - a
        if len(a) > 1:
            draws = np.random.default_rng(test.seed).integers(len(a), size=(test.resamples, len(a)))
            tail = (1 - CONFIDENCE) / 2
            lo, hi = map(float, np.quantile(a[draws].mean(axis=1) / b[draws].mean(axis=1), [tail, 1 - tail]))
    statement = Statement(-1, limit, False, units, limit - ratio)
    return Effect(comparison, ratio, lo, hi, seeds_lo, seeds_hi, len(units), 1, tuple(_with_tests([statement], test)))


def _paired(first: Measured, second: Measured) -> tuple[Measured, Measured]:
    """Both on the units and seeds that they share, in the same order."""
    if first.values is None or second.values is None:
        return first, second
    units = [unit for unit in first.units if unit in set(second.units)]
    seeds = [seed for seed in first.seeds if seed in second.seeds]

    def on_shared(one: Measured) -> Measured:
        columns = [one.units.index(unit) for unit in units]
        rows = [one.seeds.index(seed) for seed in seeds]
        values = one.values[np.ix_(rows, columns)]
        return Measured(float(np.nanmean(values)) if values.size else math.nan, values, tuple(units), tuple(seeds))

    return on_shared(first), on_shared(second)


def _difference(first: Measured, second: Measured) -> Measured:
    if first.values is None or second.values is None:
        lo, hi, count = first.lo - second.hi, first.hi - second.lo, min(first.count, second.count)
        return Measured(first.mean - second.mean, lo=lo, hi=hi, count=count)
    values = first.values - second.values
    present = ~np.isnan(values).any(axis=0)  # a prompt without one of the two values is left out
    units = tuple(unit for unit, there in zip(first.units, present, strict=True) if there)
    values = values[:, present]
    return Measured(float(values.mean()) if values.size else math.nan, values, units, first.seeds)


def _average(effects: Sequence[Measured]) -> Measured:
    mean = sum(effect.mean for effect in effects) / len(effects)
    if any(effect.values is None for effect in effects):
        lo, hi = (sum(getattr(effect, end) for effect in effects) / len(effects) for end in ("lo", "hi"))
        return Measured(mean, lo=lo, hi=hi)
    first = effects[0]
    shared = [_paired(effect, first)[0] for effect in effects]
    units = [unit for unit in first.units if all(unit in effect.units for effect in shared)]
    stacked = np.stack([e.values[:, [e.units.index(unit) for unit in units]] for e in shared]).mean(axis=0)
    return Measured(float(stacked.mean()) if stacked.size else math.nan, stacked, tuple(units), first.seeds)


def _over_seeds(values: np.ndarray) -> np.ndarray:
    """(seeds, units) to (units that have a value under every seed,)."""
    means = values.mean(axis=0)
    return means[~np.isnan(means)]


def _intervals(effect: Measured, test: Level) -> tuple[float, float, float, float]:
    """Bootstrap intervals of the effect over units, and over seeds where there are several."""
    if effect.values is None:
        return effect.lo, effect.hi, math.nan, math.nan
    how = {"resamples": test.resamples, "seed": test.seed}
    units = mean_interval(_over_seeds(effect.values), **how)
    if len(effect.seeds) < 2 or not effect.values.size:
        return units.lo, units.hi, math.nan, math.nan
    seeds = mean_interval(np.nanmean(effect.values, axis=1), **how)
    return units.lo, units.hi, seeds.lo, seeds.hi
