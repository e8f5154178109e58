"""Hard preference sampling: the schedule of gamma, the law of the negatives and their draws (arXiv 2502.14400, Eq. 9);
and a negative that is not drawn, for comparison.

All functions take the rewards of one prompt, (n,) numbers, with an optional mask, (n,) bool, false for padding. The
dispreferred responses are those strictly below the best; those that tie with it are never drawn.

Every function raises ValueError when a reward is not finite, or when nothing is dispreferred.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from hps.support.files import stable_hash


def gamma_at(progress: float, levels: Sequence[float]) -> float:
    """The gamma at `progress` in [0, 1) of training, which the levels share out in equal intervals (Sec. 6).

    Each interval has its start and not its end: of five levels, the second begins at 0.2. Raises ValueError for other
    progress, or no levels.
    """
    if not len(levels):
        raise ValueError("gamma has no levels")
    if not 0 <= progress < 1:
        raise ValueError(f"progress is {progress!r} where a number in [0, 1) is expected")
    # step / steps * levels can fall short of the whole number it stands for by rounding
    return levels[min(int(progress * len(levels) * (1 + 1e-12)), len(levels) - 1)]


def negative_probabilities(rewards: ArrayLike, gamma: float, mask: ArrayLike | None = None) -> np.ndarray:
    """(n,) `q_k ~ exp(gamma r_k)` over the dispreferred, 0 elsewhere (Eq. 9).

    gamma = inf shares q among the hardest (highest reward), -inf among the easiest. Raises ValueError for NaN gamma.
    """
    if math.isnan(gamma):
        raise ValueError("gamma is NaN")
    rewards, dispreferred = _dispreferred(rewards, mask)
    r = rewards[dispreferred]
    distance = np.abs(r - (r.max() if gamma > 0 else r.min()))  # from the likeliest, whose exponent is then 0
    weights = (distance == 0).astype(float) if math.isinf(gamma) else np.exp(-abs(gamma) * distance)
    probabilities = np.zeros(len(rewards))
    probabilities[dispreferred] = weights / weights.sum()
    return probabilities


def draw_negative(
    rewards: ArrayLike,
    gamma: float,
    *,
    seed: int,
    epoch: int,
    prompt_id: str,
    mask: ArrayLike | None = None,
) -> int:
    """Index of the negative drawn from `negative_probabilities` for a prompt in an epoch.

    The randomness depends on (seed, epoch, prompt_id) alone. It picks a quantile of the dispreferred ranked by reward,
    so that with a larger gamma the same draw is never an easier response, and (but for ties) the response drawn does
    not depend on the order in which they are listed.
    """
    probabilities = negative_probabilities(rewards, gamma, mask)
    candidates = np.flatnonzero(probabilities)
    candidates = candidates[np.argsort(np.asarray(rewards, dtype=float)[candidates], kind="stable")]
    cumulative = probabilities[candidates].cumsum()
    quantile = np.random.default_rng(stable_hash("negative", seed, epoch, prompt_id)).random() * cumulative[-1]
    return int(candidates[min(np.searchsorted(cumulative, quantile, side="right"), len(candidates) - 1)])


def negative_near(rewards: ArrayLike, deviations: float = -2.0, mask: ArrayLike | None = None) -> int:
    """Index of the dispreferred response whose reward is nearest to the mean plus `deviations` standard deviations.

    Both are of the rewards of all responses, the best included; the deviation is that of the population (divided by n).
    Of equally near responses the one with the lowest reward is taken, of equal rewards the first listed.
    """
    rewards, dispreferred = _dispreferred(rewards, mask)
    own = rewards if mask is None else rewards[np.asarray(mask)]
    candidates = np.flatnonzero(dispreferred)
    candidates = candidates[np.argsort(rewards[candidates], kind="stable")]
    return int(candidates[np.abs(rewards[candidates] - (own.mean() + deviations * own.std())).argmin()])


def hardness(rewards: ArrayLike, index: int, mask: ArrayLike | None = None) -> float:
    """How hard negative `index` is among the m dispreferred: from 0, the easiest, to 1, the hardest.

    `(below + (tied - 1) / 2) / (m - 1)`, where `below` of them have a lower reward than it and `tied` the same, itself
    included; 0.5 for m = 1. A uniform draw thus has mean 0.5 in every prompt. Raises ValueError when the response is
    not dispreferred.
    """
    rewards, dispreferred = _dispreferred(rewards, mask)
    if not 0 <= index < len(rewards) or not dispreferred[index]:
        raise ValueError(f"response {index} is not dispreferred")
    r = rewards[dispreferred]
    if len(r) == 1:
        return 0.5
    below, tied = (r < rewards[index]).sum(), (r == rewards[index]).sum()
    return float((below + (tied - 1) / 2) / (len(r) - 1))


def _dispreferred(rewards: ArrayLike, mask: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
    """The rewards as float64, and which of them are dispreferred."""
    rewards = np.asarray(rewards, dtype=float)
    if rewards.ndim != 1:
        raise ValueError(f"rewards have shape {rewards.shape} where (n,) is expected")
    mask = np.full(rewards.shape, True) if mask is None else _flags("mask", mask, rewards)
    if not mask.any():
        raise ValueError("every response is masked")
    if not np.isfinite(rewards[mask]).all():
        raise ValueError(f"the reward of response {np.flatnonzero(mask & ~np.isfinite(rewards))[0]} is not finite")
    dispreferred = mask & (rewards < rewards[mask].max())
    if not dispreferred.any():
        raise ValueError("nothing is dispreferred: no reward is below the best")
    return rewards, dispreferred


def _flags(name: str, flags: ArrayLike, rewards: np.ndarray) -> np.ndarray:
    flags = np.asarray(flags)
    if flags.shape != rewards.shape or flags.dtype != bool:
        raise ValueError(f"{name} has shape {flags.shape} of {flags.dtype} where {rewards.shape} of bool is expected")
    return flags
