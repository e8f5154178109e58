"""Quality scores with intervals over raters and prompts, and how far the raters agree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hps.evidence.statistics import CONFIDENCE, Estimate
from hps.user_study.design import CRITERIA
from hps.user_study.ratings import Ratings

RESAMPLES = 2000


@dataclass(frozen=True)
class Scores:
    """Estimates by method: `quality` (mean over the criteria), each criterion, `quality` on each test set, and
    `difference`, the last method's quality minus this one's (of raters and prompts that rated both)."""

    estimates: dict[str, dict[str, Estimate]]
    alpha: dict[str, float]
    """Krippendorff's alpha (interval scale) of each criterion and of `quality`; NaN where it is not defined."""


def score(ratings: Ratings, *, seed: int, resamples: int = RESAMPLES) -> Scores:
    """Quality as the mean over prompts of the mean over the raters who rated it, so no prompt counts more."""
    quality = ratings.values.mean(axis=3)  # (raters, prompts, methods); of a response rated on all criteria
    test_sets = np.array([test_set for test_set, _ in ratings.prompts])

    def estimate(values: np.ndarray) -> Estimate:
        return crossed_interval(values, resamples=resamples, seed=seed)

    estimates: dict[str, dict[str, Estimate]] = {}
    for number, method in enumerate(ratings.methods):
        own = quality[:, :, number]
        found = {"quality": estimate(own)}
        for place, criterion in enumerate(CRITERIA):
            found[criterion] = estimate(ratings.values[:, :, number, place])
        for test_set in dict.fromkeys(test_sets):
            found[str(test_set)] = estimate(own[:, test_sets == test_set])
        if number < len(ratings.methods) - 1:
            found["difference"] = estimate(quality[:, :, -1] - own)
        estimates[method] = found
    alphas = {criterion: agreement(ratings.values[:, :, :, place]) for place, criterion in enumerate(CRITERIA)}
    return Scores(estimates, {"quality": agreement(quality)} | alphas)


def crossed_interval(values: np.ndarray, *, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """Mean of `values` (raters, prompts) with a percentile bootstrap interval over raters and prompts.

    The mean is over prompts of the mean over raters; NaN means "not rated". Raters and prompts are resampled
    independently of each other, since both are samples of more. With one rater or one prompt, that side is not
    resampled; with one of each there is no interval.
    """
    values = values[:, ~np.isnan(values).all(axis=0)]
    values = values[~np.isnan(values).all(axis=1)]
    raters, prompts = values.shape
    if not values.size:
        return Estimate(np.nan, np.nan, np.nan, 0)
    mean = float(_nan_mean(_nan_mean(values, axis=0), axis=0))
    if raters == prompts == 1:
        return Estimate(mean, np.nan, np.nan, 1)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for number in range(resamples):
        drawn = values[rng.integers(raters, size=raters)][:, rng.integers(prompts, size=prompts)]
        means[number] = _nan_mean(_nan_mean(drawn, axis=0), axis=0)
    tail = (1 - CONFIDENCE) / 2
    # With many gaps a resample can hold no rating at all.
    lo, hi = np.nanquantile(means, [tail, 1 - tail])
    return Estimate(mean, float(lo), float(hi), prompts)


def agreement(values: np.ndarray) -> float:
    """Krippendorff's alpha of (raters, prompts, methods), a unit being one response.

    NaN where it is not defined: no response with two ratings, or all of those equal.
    """
    import krippendorff

    by_rater = values.reshape(len(values), -1)
    by_rater = by_rater[:, (~np.isnan(by_rater)).sum(axis=0) >= 2]
    if np.unique(by_rater[~np.isnan(by_rater)]).size < 2:
        return float("nan")
    return float(krippendorff.alpha(reliability_data=by_rater, level_of_measurement="interval"))


def _nan_mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean of what is not NaN; NaN where nothing is, without numpy's warning."""
    present = ~np.isnan(values)
    counts = present.sum(axis=axis)
    sums = np.where(present, values, 0.0).sum(axis=axis)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
