"""Intervals of means over prompts, by the bootstrap: prompts are what a test set samples, so prompts are resampled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95
RESAMPLED_VALUES = 2**24
"""Resampled values in memory at a time (128 MiB of float64)."""


class Estimate(NamedTuple):
    """A mean over prompts with its percentile bootstrap interval; NaN where the data do not determine it."""

    mean: float
    lo: float
    hi: float
    prompts: int


def over_seeds(values: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the seeds of a method, per prompt: a list of (prompts,) arrays to (prompts,).

    Seeds are averaged first and prompts resampled after, so the interval speaks of the test set and treats the seeds
    at hand as given. A prompt without a value (NaN) under one seed has none.
    """
    return np.mean(np.stack(values), axis=0)


def mean_intervals(values: np.ndarray, *, resamples: int, seed: int, confidence: float = CONFIDENCE) -> list[Estimate]:
    """Means of the rows of `values` (rows, prompts) with percentile bootstrap intervals, one Estimate a row.

    NaN means "no value for this prompt" and is left out. Rows with values for the same prompts share their resamples.
    A row without values has no mean; one with a single value has a mean and no interval; one whose values are all
    equal has that value as both ends. The same seed gives the same intervals.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    present = ~np.isnan(values)
    estimates = [Estimate(np.nan, np.nan, np.nan, 0)] * len(values)
    for pattern in np.unique(present, axis=0):
        rows = np.flatnonzero((present == pattern).all(axis=1))
        for row, estimate in zip(rows, _complete(values[rows][:, pattern], resamples, seed, confidence), strict=True):
            estimates[row] = estimate
    return estimates


def mean_interval(values: np.ndarray, *, resamples: int, seed: int, confidence: float = CONFIDENCE) -> Estimate:
    """The same for the values (prompts,) of one quantity."""
    return mean_intervals(values, resamples=resamples, seed=seed, confidence=confidence)[0]


def paired_difference(
    first: np.ndarray, second: np.ndarray, *, resamples: int, seed: int, confidence: float = CONFIDENCE
) -> Estimate:
    """Mean of `first - second`, both (prompts,) over the same prompts, with its paired bootstrap interval.

    The pairs are resampled together: how hard a prompt is for both methods cancels. Prompts that lack one of the two
    values (NaN) are left out. Raises ValueError when the lengths differ.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if first.shape != second.shape:
        raise ValueError(f"paired values of shapes {first.shape} and {second.shape}")
    return mean_interval(first - second, resamples=resamples, seed=seed, confidence=confidence)


def _complete(values: np.ndarray, resamples: int, seed: int, confidence: float) -> list[Estimate]:
    """Estimates of rows (rows, prompts) without NaN."""
    rows, prompts = values.shape
    if prompts == 0:
        return [Estimate(np.nan, np.nan, np.nan, 0)] * rows
    mean, lo, hi = values.mean(axis=1), np.full(rows, np.nan), np.full(rows, np.nan)
    if prompts > 1:
        # All rows share the resamples. scipy.stats.bootstrap would do this too, but transformers imports scipy wherever
        # it is installed, which is a second of each job's start-up.
        draws = np.random.default_rng(seed).integers(prompts, size=(resamples, prompts))
        size = max(1, RESAMPLED_VALUES // values.size)
        means = [values[:, draws[i : i + size]].mean(axis=-1) for i in range(0, resamples, size)]
        tail = (1 - confidence) / 2
        low, high = np.quantile(np.concatenate(means, axis=1), [tail, 1 - tail], axis=1)
        constant = np.ptp(values, axis=1) == 0  # summing rounds: the mean of equal values may differ from the value
        mean = np.where(constant, values[:, 0], mean)
        lo = np.where(constant, values[:, 0], low)
        hi = np.where(constant, values[:, 0], high)
    return [Estimate(float(m), float(a), float(b), prompts) for m, a, b in zip(mean, lo, hi, strict=True)]


def sign_flip_p(values: Sequence[np.ndarray], *, resamples: int, seed: int) -> list[tuple[float, float]]:
    """One-sided p-values of the means of paired differences, by flipping their signs at random.

    Args:
        values: one array (units,) of differences a comparison; comparisons may differ in their units.

    Returns:
        For each comparison p of "the mean is at most 0" and of "the mean is at least 0": the share of sign patterns
        under which the mean is at least as large (as small) as the one observed. With u units neither can be below
        2^-u, so a handful of units never decides. All patterns are tried where there are no more than `resamples`, else
        so many at random, and the one observed. NaN without units.
    """
    results = [(np.nan, np.nan)] * len(values)
    lengths = np.array([len(one) for one in values])
    for units in np.unique(lengths[lengths > 0]):
        rows = np.flatnonzero(lengths == units)
        stacked = np.stack([np.asarray(values[row], dtype=np.float64) for row in rows])
        observed = stacked.mean(axis=1)
        slack = 1e-12 * np.abs(stacked).mean(axis=1)  # what rounding may add to a mean that is equal
        above, below, patterns = np.zeros(len(rows)), np.zeros(len(rows)), 0
        for signs in _sign_patterns(int(units), resamples, seed):
            means = signs @ stacked.T / units
            above += (means >= observed - slack).sum(axis=0)
            below += (means <= observed + slack).sum(axis=0)
            patterns += len(signs)
        for row, p_above, p_below in zip(rows, above / patterns, below / patterns, strict=True):
            results[row] = (float(p_above), float(p_below))
    return results


def _sign_patterns(units: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Patterns of +1 and -1, (patterns, units) at a time; the first is that of no flips."""
    if units < 63 and 2**units <= resamples:
        yield 1.0 - 2.0 * ((np.arange(2**units)[:, None] >> np.arange(units)) & 1)
        return
    yield np.ones((1, units))
    generator, size = np.random.default_rng(seed), max(1, RESAMPLED_VALUES // units)
    for start in range(0, resamples, size):
        yield generator.integers(2, size=(min(size, resamples - start), units)) * 2.0 - 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values in the order given: the k-th smallest of m times m - k + 1, at most 1, never falling."""
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = highest
    return adjusted
