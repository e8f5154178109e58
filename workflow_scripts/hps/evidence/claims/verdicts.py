"""From claims and evidence to verdicts: effects with intervals, p-values, Holm's correction.

A claim is a conjunction of statements "effect > threshold" (or <). It is

- *supported* when every statement holds: its p-value is the largest of theirs (an intersection-union test needs no
  correction);
- *contradicted* when one of m statements fails: m times the smallest p-value of the reverse;
- *no difference*, for claims that one number is above another, when every effect lies within the smallest effect of
  interest: the largest p-value of two one-sided tests against that bound (an equivalence test).

An effect can be clear of 0 and surely too small to matter. Then the verdict is *no difference*, and the reason says
which way the effect goes: so more than one of the three may be found for a claim. Hence Holm's method corrects over all
three of all claims that could be tested, not over one p-value a claim: a claim that has its verdict leaves its other
two to be tested. Whatever the truth is, at most two of the three are wrong (no difference where the claim holds or
fails by more than the bound; supported and contradicted where it has no effect), which is what the correction counts.
So the chance that any verdict, or any direction in a reason, is wrong is at most alpha. (All three are wrong only
where one effect of a claim is exactly 0 and another beyond the bound: of such claims the chance is at most 1.5 alpha.)

A claim is about methods, and a method is trained with a seed. Statements that rest on one seed hold for the trained
policies at hand: they are judged apart, and the claim about methods stays open.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hps.evidence.claims.evidence import Evidence, Measured
from hps.evidence.claims.vocabulary import Claim, ClaimComparison, comparisons
from hps.evidence.statistics import CONFIDENCE, Estimate, estimate, holm, ratio_interval, t_quantile

SUPPORTED, CONTRADICTED, NO_DIFFERENCE, OPEN = "supported", "contradicted", "no difference", "open"
VERDICTS = {SUPPORTED: "✓", CONTRADICTED: "✗", NO_DIFFERENCE: "=", OPEN: "○"}
"""What can be said of a claim, each with a mark that does without colour."""
ROUNDING = 1e-9
"""0.324 - 0.314 is not quite 0.010 in binary."""


@dataclass(frozen=True)
class Level:
    """How hard the verdict is on our numbers, and on which scale the evaluation's reward is."""

    alpha: float = 0.05
    reward_in_log_odds: bool = False


@dataclass(frozen=True)
class Statement:
    """`sign * (effect - threshold) > 0`, `strict` or also where it is 0; `margin` estimates the left side."""

    sign: int
    threshold: float
    strict: bool
    margin: Estimate

    @property
    def p_for(self) -> float:
        return self.margin.p_above(0)

    @property
    def p_against(self) -> float:
        return self.margin.p_below(0)

    @property
    def holds(self) -> bool | None:
        """Whether the numbers as they stand agree; None for a tie that decides nothing."""
        if abs(self.margin.mean) <= ROUNDING:
            return None if self.strict else True
        return self.margin.mean > 0


@dataclass(frozen=True)
class Effect:
    """One comparison evaluated: its effect with an interval, and what must hold of it."""

    comparison: ClaimComparison
    mean: float
    lo: float
    hi: float
    units: int  # prompts, trainings or repetitions
    seeds: int  # 0: not a matter of training seeds
    statements: tuple[Statement, ...]
    scale: float = 1.0  # effect / margin of a statement
    by_seed: tuple[float, ...] = ()  # the effect under each training seed, where there are several

    @property
    def holds(self) -> bool | None:
        """Whether every statement agrees with the numbers as they stand, uncertainty aside; None: a tie."""
        found = [statement.holds for statement in self.statements]
        return False if False in found else None if None in found else True

    @property
    def tested(self) -> bool:
        return not any(math.isnan(statement.p_for) for statement in self.statements)

    def p_within(self, bound: float) -> float:
        """p-value of "the effect is `bound` or more away from its threshold"; for effects with one statement."""
        return max(self.statements[0].margin.p_below(bound), self.statements[0].margin.p_above(-bound))

    def smallest(self, level: float) -> float:
        """The smallest effect that a one-sided test at `level` would have found with 80 % power."""
        return self.scale * self.statements[0].margin.smallest_effect(level)

    @property
    def lacks(self) -> str:
        """Which of the two would narrow the interval more: "seeds" or "prompts"; "" where seeds do not matter."""
        if self.seeds == 0:
            return ""
        return "seeds" if self.seeds == 1 or self.statements[0].margin.more_from_seeds else "prompts"


@dataclass(frozen=True)
class Result:
    """A claim on one body of evidence."""

    claim: Claim
    effects: tuple[Effect, ...]
    missing: int  # comparisons without numbers, or with numbers that may not be compared
    absent: str = ""  # why
    verdict: str = OPEN
    of_policies: str = OPEN  # the verdict for the trained policies at hand, where that is all that can be said
    reason: str = ""
    p: float = math.nan
    p_holm: float = math.nan
    level: float = math.nan  # of a one-sided test of one comparison, corrected for all claims
    decisive: Effect | None = field(default=None)

    @property
    def holding(self) -> int:
        """Comparisons whose numbers agree with the claim as they stand."""
        return sum(effect.holds is True for effect in self.effects)

    @property
    def lacks(self) -> str:
        """What an open claim lacks for a verdict."""
        if self.absent or self.missing or not self.effects:
            return "numbers"
        of = "seeds" if self.one_seed or self.decisive is None else self.decisive.lacks
        return {"seeds": "training seeds", "prompts": "test prompts", "": "repetitions"}[of]

    @property
    def one_seed(self) -> bool:
        """Whether a comparison that counts rests on one training seed."""
        return any(effect.seeds == 1 for effect in self.effects)

    @property
    def seeds(self) -> int:
        """Training seeds that the verdict rests on: the fewest of the comparisons; 0 where they do not matter."""
        counts = [self.decisive] if self.verdict == CONTRADICTED and self.decisive else self.effects
        return min((effect.seeds for effect in counts), default=0)


def evaluate(claim: Claim, evidence: Evidence, test: Level) -> Result:
    """The claim's comparisons with effects and intervals; no verdict yet."""
    absent = evidence.why_absent(claim.table)
    effects, missing, unequal = [], 0, ""
    for comparison in [] if absent else comparisons(claim, lambda column: evidence.values(claim.table, column)):
        why = evidence.why_unequal(operand for term in comparison.terms for operand in term)
        effect = None if why else _effect(claim, comparison, evidence, test)
        unequal = unequal or why
        missing += effect is None
        effects += [effect] if effect else []
    return Result(claim, tuple(effects), missing, absent or unequal)


def judge_as_printed(result: Result) -> Result:
    """Verdict on numbers without uncertainty (the paper's): a claim holds when every comparison does."""
    if not result.effects:
        return replace(result, reason=result.absent or "no numbers")
    found = [effect.holds for effect in result.effects]
    worst = min(result.effects, key=lambda effect: min(statement.margin.mean for statement in effect.statements))
    reason = f"holds in {result.holding} of {len(found)}"
    if False in found:
        return replace(result, verdict=CONTRADICTED, reason=reason, decisive=worst)
    if result.missing or None in found:
        reason = f"{result.missing} without numbers" if result.missing else "a tie"
        return replace(result, reason=reason, decisive=worst)
    return replace(result, verdict=SUPPORTED, reason=reason, decisive=worst)


def judge(results: Sequence[Result], test: Level) -> list[Result]:
    """Verdicts on numbers with uncertainty, corrected over all claims that can be tested.

    First about the methods, from the comparisons with several seeds (or with none to vary); then, for claims with
    comparisons of one seed, about the trained policies at hand. A claim that holds as far as it was measured but has
    comparisons without numbers is open.
    """
    of_methods = _family(results, test, lambda effect: effect.tested and effect.seeds != 1)
    of_policies = _family(results, test, lambda effect: effect.tested)
    return [_one_seed(method, policies) for method, policies in zip(of_methods, of_policies, strict=True)]


def _one_seed(result: Result, of_policies: Result) -> Result:
    """What is left to say of a claim about methods where a comparison rests on one seed."""
    if result.verdict != OPEN or not result.one_seed:
        return result
    reason = f"for these trained policies alone: {of_policies.verdict}, {of_policies.reason}"
    return replace(of_policies, verdict=OPEN, of_policies=of_policies.verdict, reason=reason)


def _family(results: Sequence[Result], test: Level, usable) -> list[Result]:
    tests = [_Test.of(result, usable) for result in results]
    level = test.alpha / 2 / max(1, sum(bool(one.p_values) for one in tests))
    adjusted = holm([one.p_values for one in tests], together=2)
    return [one.verdict(own, test.alpha, level) for one, own in zip(tests, adjusted, strict=True)]


@dataclass(frozen=True)
class _Test:
    """A claim's three p-values from the comparisons that are usable."""

    result: Result
    pairs: tuple[tuple[Effect, Statement], ...]
    p_values: dict[str, float]  # by verdict
    lacking: int  # comparisons that are missing or not usable

    @classmethod
    def of(cls, result: Result, usable) -> _Test:
        effects = [effect for effect in result.effects if usable(effect)]
        pairs = tuple((effect, statement) for effect in effects for statement in effect.statements)
        lacking = result.missing + len(result.effects) - len(effects)
        if not pairs:
            return cls(result, pairs, {}, lacking)
        p_values = {CONTRADICTED: min(1.0, len(pairs) * min(statement.p_against for _, statement in pairs))}
        if not lacking:
            p_values[SUPPORTED] = max(statement.p_for for _, statement in pairs)
            if result.claim.smallest is not None:
                p_values[NO_DIFFERENCE] = max(effect.p_within(result.claim.smallest) for effect in effects)
        return cls(result, pairs, p_values, lacking)

    def verdict(self, adjusted: Mapping[str, float], alpha: float, level: float) -> Result:
        """The verdict by the corrected p-values, or open."""
        result = self.result
        if not adjusted:
            why = result.absent or ("too few values to test" if result.effects else "no numbers")
            return replace(result, reason=why)
        weakest, _ = max(self.pairs, key=lambda pair: (pair[1].p_for, -pair[1].margin.mean))
        broken, _ = min(self.pairs, key=lambda pair: (pair[1].p_against, pair[1].margin.mean))
        found = [name for name in (NO_DIFFERENCE, CONTRADICTED, SUPPORTED) if adjusted.get(name, math.inf) <= alpha]
        verdict = found[0] if found else OPEN
        reason = f"holds in {result.holding} of {len(result.effects)}"
        if verdict == NO_DIFFERENCE:
            reason = self._small(found)
        elif verdict == OPEN and self.lacking:
            reason += f", {self.lacking} without enough numbers" + (f" ({result.absent})" if result.absent else "")
        elif verdict == OPEN:
            reason += f", not decided: lacks {weakest.lacks}" if weakest.lacks else ", not decided"
        decisive = broken if verdict == CONTRADICTED else self._largest if verdict == NO_DIFFERENCE else weakest
        decided_by = verdict if found else min(adjusted, key=adjusted.__getitem__)
        numbers = {"p": self.p_values[decided_by], "p_holm": adjusted[decided_by], "level": level}
        return replace(result, verdict=verdict, reason=reason, decisive=decisive, **numbers)

    @property
    def _largest(self) -> Effect:
        """The effect that is nearest to the smallest effect of interest."""
        bound = self.result.claim.smallest
        return max((effect for effect, _ in self.pairs), key=lambda e: (e.p_within(bound), abs(e.mean)))

    def _small(self, found: Sequence[str]) -> str:
        """Why there is no difference: which way the effects go, if that is clear, and how large they are at most."""
        count = f" in all {len(self.pairs)}" if len(self.pairs) > 1 else ""
        bound = f"within {self.result.claim.smallest:g}"
        right, wrong = ("above", "below")[:: self.pairs[0][1].sign]
        if SUPPORTED in found:
            return f"{right} 0{count}, but {bound}"
        if CONTRADICTED in found:
            return f"{wrong} 0{' in at least one' if count else ''}, but {bound}{count}"
        return bound + count


# --- effects ---------------------------------------------------------------------------------------------------------


def _effect(claim: Claim, comparison: ClaimComparison, evidence: Evidence, test: Level) -> Effect | None:
    """The comparison evaluated, or None where one of its numbers is missing."""
    terms = []
    for operands in comparison.terms:
        measured = [evidence.measure(claim.table, operand) for operand in operands]
        if any(one is None for one in measured):
            return None
        terms.append(measured)
    if claim.kind == "ratio_at_most":
        return _ratio(claim, comparison, *_paired(*terms[0]))
    combined = [difference(*term) if len(term) == 2 else term[0] for term in terms]
    paired = evidence.measure(claim.table, comparison.paired) if comparison.paired else None
    effect = paired or (combined[0] if len(combined) == 1 else _average(combined))
    found = _estimate(effect)
    if math.isnan(found.mean):
        return None
    statements = tuple(Statement(*how, _margin(found, *how[:2])) for how in _statements(claim, effect, test))
    by_seed = _by_seed(effect.seeds, lambda row: row.mean(), effect.values)
    return Effect(comparison, *found[:4], len(effect.seeds), statements, by_seed=by_seed)


def _statements(claim: Claim, effect: Measured, test: Level) -> list[tuple[int, float, bool]]:
    """What a kind asks of the effect: (sign, threshold, strict)."""
    details = claim.details
    if claim.kind == "greater":
        return [(1, details.get("margin", 0.0), True)]
    if claim.kind == "monotone":
        return [(1 if details["direction"] == "rising" else -1, 0.0, True)]
    if claim.kind == "within":
        tolerance = details["tolerance"]
        if effect.values is not None and test.reward_in_log_odds:
            tolerance = details.get("tolerance_log_odds", tolerance)
        return [(-1, tolerance, False), (1, -tolerance, False)]
    return [(1 if claim.kind == "at_least" else -1, details["limit"], False)]


def _estimate(effect: Measured) -> Estimate:
    """Of values, or of an interval: its width tells the variance, which counts as that of what there is least of."""
    if effect.values is not None:
        return estimate(effect.values)
    found = Estimate(effect.mean, effect.lo, effect.hi, effect.count, max(1, len(effect.seeds)))
    fewest = len(effect.seeds) if len(effect.seeds) > 1 else effect.count
    if math.isnan(effect.lo) or effect.count < 2:
        return found
    variance = ((effect.hi - effect.lo) / 2 / t_quantile((1 - CONFIDENCE) / 2, fewest - 1)) ** 2
    parts = (variance, 0.0) if len(effect.seeds) > 1 else (0.0, variance)
    return found._replace(seed_variance=parts[0], prompt_variance=parts[1])


def _margin(found: Estimate, sign: int, threshold: float) -> Estimate:
    """Of `sign * (effect - threshold)`."""
    lo, hi = sorted((sign * (found.lo - threshold), sign * (found.hi - threshold)))
    return found._replace(mean=sign * (found.mean - threshold), lo=lo, hi=hi)


def _ratio(claim: Claim, comparison: ClaimComparison, first: Measured, second: Measured) -> Effect:
    """first / second of the means; the statement is tested on limit * second - first."""
    limit = claim.details["limit"]
    if first.values is None or second.values is None:
        ratio = first.mean / second.mean
        statement = Statement(-1, limit, False, Estimate(limit - ratio, math.nan, math.nan, 0))
        return Effect(comparison, ratio, math.nan, math.nan, 0, 0, (statement,))
    both = first.values, second.values
    statement = Statement(-1, limit, False, estimate(limit * second.values - first.values))
    found = ratio_interval(*both)
    units, by_seed = first.values.shape[1], _by_seed(first.seeds, lambda a, b: a.mean() / b.mean(), *both)
    return Effect(comparison, *found, units, len(first.seeds), (statement,), 1 / second.mean, by_seed)


def _by_seed(seeds: Sequence[int], of: Callable[..., float], *values: np.ndarray | None) -> tuple[float, ...]:
    """`of` the units under each seed, on the units that have a value under all; nothing with fewer than two seeds."""
    if len(seeds) < 2 or values[0] is None:
        return ()
    complete = ~np.isnan(np.stack(values)).any(axis=(0, 1))
    return tuple(float(of(*(one[complete] for one in rows))) for rows in zip(*values, strict=True))


def _paired(first: Measured, second: Measured) -> tuple[Measured, Measured]:
    """Both on the units and seeds that they share, in the same order."""
    if first.values is None or second.values is None:
        return first, second
    units = [unit for unit in first.units if unit in set(second.units)]
    seeds = [seed for seed in first.seeds if seed in second.seeds]

    def on_shared(one: Measured) -> Measured:
        columns = [one.units.index(unit) for unit in units]
        rows = [one.seeds.index(seed) for seed in seeds] if one.seeds else [0]
        values = one.values[np.ix_(rows, columns)]
        return Measured(_mean(values), values, tuple(units), tuple(seeds))

    return on_shared(first), on_shared(second)


def difference(first: Measured, second: Measured) -> Measured:
    """`first - second`: paired on the units and seeds that they share, or where either has none, by intervals."""
    first, second = _paired(first, second)
    if first.values is None or second.values is None:
        # The interval of a difference of two intervals holds whatever their correlation is.
        lo, hi, count = first.lo - second.hi, first.hi - second.lo, min(first.count, second.count)
        seeds = min(first.seeds, second.seeds, key=len)
        return Measured(first.mean - second.mean, seeds=seeds, lo=lo, hi=hi, count=count)
    values = first.values - second.values
    return Measured(_mean(values), values, first.units, first.seeds)


def _average(effects: Sequence[Measured]) -> Measured:
    mean = sum(effect.mean for effect in effects) / len(effects)
    if any(effect.values is None for effect in effects):
        lo, hi = (sum(getattr(effect, end) for effect in effects) / len(effects) for end in ("lo", "hi"))
        return Measured(mean, seeds=min((e.seeds for e in effects), key=len), lo=lo, hi=hi)
    first = effects[0]
    for effect in effects[1:]:
        first, _ = _paired(first, effect)
    values = np.stack([_paired(effect, first)[0].values for effect in effects]).mean(axis=0)
    return Measured(_mean(values), values, first.units, first.seeds)


def _mean(values: np.ndarray) -> float:
    return estimate(values).mean
