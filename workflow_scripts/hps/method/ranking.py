"""The order of a prompt's responses by reward: who is best, who is worst, and what ties mean. Every module asks here.

tau sorts by reward, highest first; responses with the same reward rank as listed. So the best is the first listed of
those with the highest reward, and the worst the last listed of those with the lowest. Where all rewards are equal
nothing is compared.

Responses with the same text are one response: `annotate` scores them once, and `hps.data.examples` gives responses
with the same token ids one reward. Here they tie exactly, and rounding decides nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def order(rewards: ArrayLike, among: ArrayLike | None = None) -> np.ndarray:
    """(..., n) tau: indices of the responses, the best first; those not `among`, (..., n) bool, come first of all."""
    rewards = np.asarray(rewards)
    if among is not None:
        rewards = np.where(among, rewards, np.inf)
    return np.argsort(-rewards, axis=-1, kind="stable")


def best(rewards: ArrayLike) -> int:
    """Index of tau(1), of (n,) rewards."""
    return int(order(rewards)[0])


def worst(rewards: ArrayLike) -> int:
    """Index of tau(n), likewise."""
    return int(order(rewards)[-1])


def compares(rewards: ArrayLike) -> bool:
    """Whether any of (n,) rewards is below the best."""
    rewards = np.asarray(rewards)
    return bool(len(rewards)) and bool(rewards.min() < rewards.max())
