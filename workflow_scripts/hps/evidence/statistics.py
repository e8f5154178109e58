"""Means over trained seeds and test prompts: intervals, tests, and the smallest effect that a test would have found.

A method is trained with a seed and measured on prompts, and both are samples of more. The values of a quantity form a
table, seeds by prompts, with one value in each cell (of a difference: paired, so what a prompt or a seed does to both
methods cancels). In the model value = mean + seed + prompt + rest, all three random, the variance of the grand mean is

    (E[MS_seeds] + E[MS_prompts] - E[MS_rest]) / (seeds * prompts)

by the mean squares of the two-way analysis of variance. With few seeds the t of one common number of degrees of freedom
(Satterthwaite's) errs: with two seeds its 95 % intervals cover as little as 87 %. So each part keeps its own t:

- the interval's half-width is sqrt(v) times the mean of both parts' t quantiles, weighted by their variances (Cochran
  and Cox 1950), v being the sum of the two variances;
- p-values come from half-widths sqrt(sum of variance * t^2) (Graybill and Wang 1980), which are never narrower: far out
  in the tails, where corrected levels lie, Cochran and Cox's would reject up to four times too often with two seeds.

Where the values of prompts are skewed, the prompts' t is widened by the skewness term of the Edgeworth expansion of the
studentized mean (Hall 1992, The Bootstrap and Edgeworth Expansion, Sec. 2.6). `docs/coverage/` shows how often all this
is right. With one seed the variance between seeds is unknown: interval and test
are the t of the prompts alone, and what they say holds for the trained policies at hand.

Student's t is computed here: wherever scipy is installed transformers imports it, which costs each job 0.3 to 1 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
SCOPE = (
    "of a row with several training seeds it holds for the method (over seeds and prompts), of one with one seed for "
    "the trained policy (over prompts)."
)
"""What an interval speaks of, for the notes of tables."""
POWER = 0.8
DRAWS = 20_000
TAILS = 0.5 * np.logspace(0, -12, 4801)
"""Upper tail probabilities at which quantiles are tabulated; between them they are interpolated."""
NORMAL = 10**9
"""Degrees of freedom at which t is as good as normal."""


class Estimate(NamedTuple):
    """A mean over seeds and prompts with its 95 % interval; NaN where the data do not determine it.

    `seed_variance` and `prompt_variance` are the parts of the mean's variance that more seeds and more prompts reduce.
    """

    mean: float
    lo: float
    hi: float
    prompts: int
    seeds: int = 1
    seed_variance: float = math.nan
    prompt_variance: float = math.nan
    skewness: float = 0.0  # of the prompts' values

    def p_above(self, threshold: float) -> float:
        """One-sided p-value of "the true mean is at most `threshold`"; NaN without an interval.

        Never below 2^-prompts, which is what a test of signs can reach, so that a handful of prompts never decides.
        """
        if math.isnan(self.prompt_variance):
            return math.nan
        distance = self.mean - threshold
        if distance == 0:
            return 0.5
        widths = width_of_test(self, self.seeds, self.prompts)
        # Interpolated in the logarithm: p-values are compared by their ratios.
        tail = math.exp(np.interp(abs(distance), widths, np.log(TAILS))) if widths[-1] > 0 else 0.0
        return max(tail if distance > 0 else 1 - tail, 0.5**self.prompts)

    def p_below(self, threshold: float) -> float:
        """One-sided p-value of "the true mean is at least `threshold`", likewise."""
        return self._replace(mean=-self.mean).p_above(-threshold)

    def smallest_effect(self, level: float, power: float = POWER) -> float:
        """The distance from the threshold that a one-sided test at `level` finds with this `power`.

        If the variances are as estimated: from 20,000 draws of what the test would see, always the same ones.
        """
        if math.isnan(self.prompt_variance):
            return math.nan
        generator = np.random.default_rng(0)
        squared, variance = 0.0, 0.0
        parts = ((self.prompt_variance, self.prompts, self.skewness), (self.seed_variance, self.seeds, 0.0))
        for part, count, skewness in parts:
            if count > 1:
                estimated = part * generator.chisquare(count - 1, DRAWS) / (count - 1)
                squared, variance = squared + estimated * _quantile(count, skewness, level) ** 2, variance + part
        # Found is an effect that is above the half-width even after its own error.
        return float(np.quantile(np.sqrt(squared) - math.sqrt(variance) * generator.standard_normal(DRAWS), power))

    @property
    def more_from_seeds(self) -> bool:
        """Whether the seeds, and not the prompts, make most of the interval's width."""
        tail = (1 - CONFIDENCE) / 2
        of_seeds = self.seed_variance * _quantile(self.seeds, 0.0, tail) ** 2 if self.seeds > 1 else 0.0
        return of_seeds > self.prompt_variance * _quantile(self.prompts, self.skewness, tail) ** 2


NOTHING = Estimate(math.nan, math.nan, math.nan, 0, 0)


def estimate(values: np.ndarray) -> Estimate:
    """The mean of `values` (seeds, prompts), or (prompts,) for one seed, with its interval.

    NaN means "no value": a prompt that lacks one under any seed is left out. With one prompt there is a mean and no
    interval; values that are all equal have that value as both ends.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    values = values[:, ~np.isnan(values).any(axis=0)]
    if not values.size:
        return NOTHING
    seeds, prompts = values.shape
    if prompts == 1:
        return Estimate(float(values.mean()), math.nan, math.nan, 1, seeds)
    parts = two_way(values)
    if np.ptp(values) == 0:  # summing rounds: the mean of equal values may differ from the value
        parts = Parts(values[0, 0], np.float64(0), np.float64(0), np.float64(0))
    mean, *others = map(float, parts)
    half = float(half_width(parts, seeds, prompts))
    return Estimate(mean, mean - half, mean + half, prompts, seeds, *others)


class Parts(NamedTuple):
    """What intervals and tests of means need of the values, each (...)."""

    mean: np.ndarray
    seed_variance: np.ndarray
    prompt_variance: np.ndarray
    skewness: np.ndarray


def two_way(values: np.ndarray) -> Parts:
    """Means of values (..., seeds, prompts), both parts of their variances, and the skewness of the prompts' means.

    The mean square of the rest is taken off the prompts' part, which has the more degrees of freedom.
    """
    seeds, prompts = values.shape[-2:]
    mean = values.mean(axis=(-2, -1))
    centred = values - mean[..., None, None]
    of_prompts = centred.mean(axis=-2)
    squares = (of_prompts**2).sum(axis=-1)
    cubes = (of_prompts**3).mean(axis=-1)
    skewness = np.divide(cubes, (squares / prompts) ** 1.5, out=np.zeros_like(cubes), where=squares > 0)
    ms_prompts = seeds * squares / (prompts - 1)
    if seeds == 1:
        return Parts(mean, np.zeros_like(mean), ms_prompts / prompts, skewness)
    ms_seeds = prompts * (centred.mean(axis=-1) ** 2).sum(axis=-1) / (seeds - 1)
    ss_rest = np.einsum("...sp,...sp->...", centred, centred) - (seeds - 1) * ms_seeds - (prompts - 1) * ms_prompts
    ms_rest = ss_rest / ((seeds - 1) * (prompts - 1))
    of_both = seeds * prompts
    # Where there is no rest, its sum of squares is 0 within rounding.
    by_prompt = np.clip(ms_prompts - ms_rest, 0, ms_prompts)
    return Parts(mean, ms_seeds / of_both, by_prompt / of_both, skewness)


def half_width(parts: Parts, seeds: int, prompts: int) -> np.ndarray:
    """Half the 95 % intervals of means (Cochran and Cox)."""
    tail = (1 - CONFIDENCE) / 2
    of_prompts = _quantile(prompts, parts.skewness, tail)
    if seeds == 1:
        return of_prompts * np.sqrt(parts.prompt_variance)
    variance = np.asarray(parts.seed_variance + parts.prompt_variance)
    weighted = _quantile(seeds, 0.0, tail) * parts.seed_variance + of_prompts * parts.prompt_variance
    return np.divide(weighted, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)


def width_of_test(parts: Parts | Estimate, seeds: int, prompts: int, tail: float | None = None) -> np.ndarray:
    """How far from its threshold a mean must be for a one-sided p-value of `tail` (Graybill and Wang).

    Without `tail`: at each of TAILS, rising.
    """
    squared = parts.prompt_variance * _quantile(prompts, parts.skewness, tail) ** 2
    return np.sqrt(squared if seeds == 1 else squared + parts.seed_variance * _quantile(seeds, 0.0, tail) ** 2)


def _quantile(count: int, skewness: np.ndarray | float, tail: float | None) -> np.ndarray:
    """The quantile at `tail`, or at each of TAILS, of the studentized mean of so many values of this skewness."""
    t, z = (t_quantiles(df) if tail is None else t_quantile(tail, df) for df in (count - 1, NORMAL))
    return t * (1 + skewness**2 * np.maximum(z**4 + 2 * z**2 - 3, 0) / (18 * count))


def paired_difference(first: np.ndarray, second: np.ndarray) -> Estimate:
    """The mean of `first - second`, both (seeds, prompts) or (prompts,) with the same seeds and prompts.

    Raises ValueError when the shapes differ.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values of shapes {first.shape} and {second.shape}")
    return estimate(first - second)


def ratio_interval(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """mean(first) / mean(second) of positive values with its interval (Fieller's): the limits r at which the interval
    of `first - r * second` has an end at 0. An end is infinite or NaN where there is none."""
    at = estimate(first).mean / estimate(second).mean

    def end(side: int) -> float:
        """Bisection between the ratio, which is within, and a limit that is not."""
        inside, outside = at, at * 2.0**side
        for _ in range(60):
            if not _holds_zero(first - outside * second):
                break
            inside, outside = outside, outside * 2.0**side
        else:
            return math.inf if side > 0 else 0.0
        for _ in range(60):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if _holds_zero(first - middle * second) else (inside, middle)
        return inside

    if math.isnan(estimate(first - at * second).lo):
        return at, math.nan, math.nan
    return at, end(-1), end(1)


def _holds_zero(values: np.ndarray) -> bool:
    found = estimate(values)
    return found.lo <= 0 <= found.hi


# --- Student's t -----------------------------------------------------------------------------------------------------


def t_quantile(tail: float, df: int) -> float:
    """The value that Student's t with `df` degrees of freedom exceeds with probability `tail`, at most 0.5."""
    return float(np.interp(-math.log(tail), -np.log(TAILS), t_quantiles(df)))


@cache
def t_quantiles(df: int) -> np.ndarray:
    """`t_quantile` at each of TAILS."""
    if df > 200:  # the expansion of Fisher and Cornish (1960) in 1 / df
        z = np.array([-NormalDist().inv_cdf(tail) for tail in TAILS])
        terms = (
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
            (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
        )
        return z + sum(term / df**power for power, term in enumerate(terms, start=1))
    low, high = np.zeros_like(TAILS), np.full_like(TAILS, np.pi / 2)
    for _ in range(60):
        middle = (low + high) / 2
        above = _tail_beyond(middle, df) > TAILS
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return math.sqrt(df) * np.tan(low)


def _tail_beyond(angle: np.ndarray, df: int) -> np.ndarray:
    """P(T > sqrt(df) tan(angle)): the finite series of Abramowitz and Stegun (1972), 26.7.3 and 26.7.4."""
    sine, cosine = np.sin(angle), np.cos(angle)
    odd = df % 2
    term = cosine.copy() if odd else np.ones_like(cosine)
    total = np.zeros_like(cosine) if df == 1 else term.copy()
    for k in range(2 + odd, df - 1, 2):
        term = term * cosine**2 * (k - 1) / k
        total = total + term
    inside = 2 / np.pi * (angle + sine * total) if odd else sine * total
    return (1 - inside) / 2


def holm(groups: Sequence[Mapping[str, float]], together: int = 1) -> list[dict[str, float]]:
    """Holm's adjusted p-values of groups of named statements, of each of which at most `together` are wrong at once.

    In rising order, each p-value times the number of statements that can still be wrong when those before it are
    right (Shaffer 1986, Modified sequentially rejective multiple test procedures), at most 1, never falling.
    """
    adjusted: list[dict[str, float]] = [{} for _ in groups]
    highest = 0.0
    ranked = sorted((p, number, name) for number, group in enumerate(groups) for name, p in group.items())
    for p, number, name in ranked:
        left = sum(min(together, len(group) - len(done)) for group, done in zip(groups, adjusted, strict=True))
        highest = max(highest, min(1.0, left * p))
        adjusted[number][name] = highest
    return adjusted
