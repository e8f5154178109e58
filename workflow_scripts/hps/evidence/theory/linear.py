"""Linear rewards r(y) = <theta, phi(y)>: preferences drawn from them, and the minimisers of the losses.

Everything here is convex with a handful of parameters, so Newton's method finds the minimum to machine precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-10
"""Of the Newton decrement: half its square is about how far the loss is from its minimum."""
STEPS = 200


@dataclass(frozen=True)
class LinearStages:
    """Comparisons of all prompts: of `features` (prompts, n, d), best first, position j against all after it.

    With `stages = 1` only the best is compared with the others (HPS; with n = 2, BT), with n - 1 every position (PL).
    `log_weights` (prompts, n) are those of the negatives; a position's own weight is 1, so they are 0 for PL.
    """

    features: np.ndarray
    log_weights: np.ndarray
    stages: int


def unit_features(prompts: int, n: int, dimension: int, generator: np.random.Generator) -> np.ndarray:
    """Features (prompts, n, d), uniform on the unit sphere: bounded, as the theorems ask."""
    values = generator.standard_normal((prompts, n, dimension))
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def pair_covariance(features: np.ndarray) -> np.ndarray:
    """Mean (d, d) of (phi_j - phi_k)(phi_j - phi_k)' over all prompts and pairs of responses."""
    n = features.shape[1]
    centred = (features - features.mean(axis=1, keepdims=True)).reshape(-1, features.shape[-1])
    return 2 * n / (n - 1) * centred.T @ centred / len(centred)


def ranked(features: np.ndarray, theta: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
    """Features in an order of preference, best first: drawn from the Plackett-Luce model of theta, or without noise."""
    scores = features @ theta
    if generator is not None:
        scores = scores + generator.gumbel(size=scores.shape)
    order = np.argsort(-scores, axis=1)
    return np.take_along_axis(features, order[..., None], axis=1)


def pl_stages(features: np.ndarray) -> LinearStages:
    """PL (Eqs. 4, 5): every position against those after it."""
    return LinearStages(features, np.zeros(features.shape[:2]), features.shape[1] - 1)


def hps_stages(features: np.ndarray, rewards: np.ndarray, gamma: float) -> LinearStages:
    """HPS with the draw of Eq. 8 replaced by its mean: best against all others, weighted N q.

    Args:
        rewards: (prompts, n) r_est of the responses in the order of `features`; q is their softmax at gamma.
    """
    n = features.shape[1]
    logits = gamma * rewards[:, 1:]
    log_q = logits - _logsumexp(logits)[:, None]
    log_weights = np.concatenate([np.zeros((len(features), 1)), np.log(n - 1) + log_q], axis=1)
    return LinearStages(features, log_weights, 1)


def bt_stages(features: np.ndarray) -> LinearStages:
    """BT (Eq. 15): best against worst."""
    ends = features[:, [0, -1]]
    return LinearStages(ends, np.zeros(ends.shape[:2]), 1)


def loss(data: LinearStages, theta: np.ndarray) -> np.ndarray:
    """The loss of each prompt (prompts,), summed over its stages."""
    scores = data.features @ theta + data.log_weights
    total = np.zeros(len(scores))
    for j in range(data.stages):
        total += _logsumexp(scores[:, j:]) - scores[:, j]
    return total


def minimise(data: LinearStages, *, ridge: float = 0.0, start: np.ndarray | None = None) -> np.ndarray:
    """The parameter (d,) with the smallest mean loss plus ridge / 2 times its squared norm.

    Raises ValueError where there is none: data that a linear reward separates have none without a ridge.
    """
    dimension = data.features.shape[-1]
    theta = np.zeros(dimension) if start is None else start.copy()
    value, gradient, hessian = _derivatives(data, theta, ridge)
    for _ in range(STEPS):
        step = np.linalg.solve(hessian + 1e-14 * np.eye(dimension), gradient)
        decrement = float(gradient @ step)
        if decrement < TOLERANCE * max(1e-300, min(1.0, value)):
            return theta
        size = 1.0
        while True:
            after = _derivatives(data, theta - size * step, ridge)
            if after[0] <= value - 1e-4 * size * decrement or size < 1e-12:
                break
            size /= 2
        theta = theta - size * step
        value, gradient, hessian = after
    raise ValueError(f"no minimum within {STEPS} steps of Newton's method")


def _derivatives(data: LinearStages, theta: np.ndarray, ridge: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean loss with its gradient (d,) and Hessian (d, d)."""
    features, dimension = data.features, len(theta)
    scores = features @ theta + data.log_weights
    value = ridge / 2 * float(theta @ theta)
    gradient, hessian = ridge * theta, ridge * np.eye(dimension)
    for j in range(data.stages):
        own, x = scores[:, j:], features[:, j:]
        log_sum = _logsumexp(own)
        p = np.exp(own - log_sum[:, None])
        mean = np.einsum("mk,mkd->md", p, x)
        value += float((log_sum - own[:, 0]).mean())
        gradient = gradient + (mean - x[:, 0]).mean(axis=0)
        weighted = (p[..., None] * x).reshape(-1, dimension)
        hessian = hessian + (weighted.T @ x.reshape(-1, dimension) - mean.T @ mean) / len(x)
    return value, gradient, hessian


def max_margin(features: np.ndarray) -> np.ndarray:
    """The unit direction (d,) with the largest smallest margin <u, best - other> over all prompts and others.

    It is that of the point of the differences' convex hull nearest to the origin, which Wolfe's algorithm (1976) finds
    exactly. Raises ValueError when no linear reward separates best from others.
    """
    points = (features[:, :1] - features[:, 1:]).reshape(-1, features.shape[-1])
    chosen = [int((points**2).sum(axis=1).argmin())]
    weights = np.ones(1)
    while True:
        nearest = weights @ points[chosen]
        if np.linalg.norm(nearest) < 1e-9:
            raise ValueError("no linear reward separates these preferences")
        products = points @ nearest
        best = int(products.argmin())
        if products[best] >= nearest @ nearest * (1 - 1e-9) or best in chosen:
            return nearest / np.linalg.norm(nearest)
        chosen, weights = [*chosen, best], np.append(weights, 0.0)
        while True:
            # The nearest point of the affine hull; where that lies outside the simplex, go to its border and drop.
            size = len(chosen)
            system = np.zeros((size + 1, size + 1))
            system[0, 1:] = system[1:, 0] = 1
            system[1:, 1:] = points[chosen] @ points[chosen].T
            target = np.linalg.lstsq(system, np.eye(size + 1)[0], rcond=None)[0][1:]
            if (target > 1e-12).all():
                weights = target
                break
            outside = np.flatnonzero(target <= 1e-12)
            share = (weights[outside] / (weights[outside] - target[outside])).min()
            weights = (1 - share) * weights + share * target
            kept = np.flatnonzero(weights > 1e-12)
            chosen, weights = [chosen[i] for i in kept], weights[kept]


def _logsumexp(values: np.ndarray) -> np.ndarray:
    highest = values.max(axis=-1)
    return highest + np.log(np.exp(values - highest[..., None]).sum(axis=-1))
