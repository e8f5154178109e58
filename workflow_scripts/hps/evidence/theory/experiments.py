"""What the three theorems say, measured on linear rewards: means with intervals over repetitions or prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hps.evidence.statistics import Estimate, estimate
from hps.evidence.theory.linear import (
    LinearStages,
    bt_stages,
    hps_stages,
    loss,
    max_margin,
    minimise,
    pair_covariance,
    pl_stages,
    ranked,
    unit_features,
)
from hps.support.files import stable_hash

THETA_NORM = 2.0
"""Length of theta*: scores then have a standard deviation of 2 / sqrt(d) on the unit sphere."""
GAMMAS = (-5.0, -2.5, 0.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
RIDGES = tuple(10.0**-power for power in range(1, 11))
SEPARABLE_PROMPTS, SEPARABLE_N = 20, 8
ANGLE = 0.6
"""Cosine between theta* and the parameter whose loss is measured where reward model and policy disagree."""


@dataclass(frozen=True)
class Sizes:
    """How large the experiments are."""

    dimension: int
    prompts: Sequence[int]  # m of Theorem 1, rising
    responses: Sequence[int]  # n of Theorem 1, rising
    repetitions: int
    seed: int


@dataclass(frozen=True)
class Point:
    """A measured value: of a theorem, a quantity, a method, and the value of what varies (NaN for a summary)."""

    theorem: int
    quantity: str
    method: str
    x: float
    estimate: Estimate


def measure(sizes: Sizes) -> list[Point]:
    """All three theorems."""
    return [*sample_efficiency(sizes), *worst_case(sizes), *direction(sizes)]


# --- Theorem 1 -------------------------------------------------------------------------------------------------------

ESTIMATORS = ("hps", "hps_gamma1", "pl")
"""HPS at gamma = 0, where its loss is a likelihood; HPS at gamma = 1, where it is not; PL."""


def estimation_error(m: int, n: int, method: str, sizes: Sizes, repetition: int) -> float:
    """|theta_hat - theta*| / |theta*| of one data set of m prompts with n responses, rankings drawn from theta*.

    In the norm of the data, |v|^2 = v' S v with S the mean of (phi_j - phi_k)(phi_j - phi_k)' over all prompts and
    pairs of responses: that of Zhu, Jordan and Jiao (2301.11270, Theorem 4.1), whose bound Theorem 1 has for PL. It
    says by how much the rewards of two responses differ, which is all that preferences can tell.
    The same prompts, and the same rankings, for all methods and (for a smaller m or n) parts of the same.
    """
    theta = true_theta(sizes, repetition)
    generator = np.random.default_rng(stable_hash(sizes.seed, "theorem 1", repetition))
    most = (max(sizes.prompts), max(sizes.responses))
    features = unit_features(*most, sizes.dimension, generator)[:m, :n]
    noise = generator.gumbel(size=most)[:m, :n]
    order = np.argsort(-(features @ theta + noise), axis=1)
    features = np.take_along_axis(features, order[..., None], axis=1)
    if method == "pl":
        data = pl_stages(features)
    else:
        data = hps_stages(features, features @ theta, 0.0 if method == "hps" else 1.0)
    covariance = pair_covariance(features)
    error = minimise(data) - theta
    return float(np.sqrt(error @ covariance @ error / (theta @ covariance @ theta)))


def true_theta(sizes: Sizes, repetition: int) -> np.ndarray:
    """theta* of a repetition, of length THETA_NORM in a random direction."""
    values = np.random.default_rng(stable_hash(sizes.seed, "theta", repetition)).standard_normal(sizes.dimension)
    return THETA_NORM * values / np.linalg.norm(values)


def sample_efficiency(sizes: Sizes) -> list[Point]:
    """Theorem 1: errors against m and against n, exponents fitted in each repetition, and HPS against PL."""
    middle_m, middle_n = sizes.prompts[len(sizes.prompts) // 2], sizes.responses[len(sizes.responses) // 2]
    sweeps = {"m": [(m, middle_n) for m in sizes.prompts], "n": [(middle_m, n) for n in sizes.responses]}
    points, errors = [], {}
    for name, cells in sweeps.items():
        for method in ESTIMATORS:
            rows = np.array(
                [[estimation_error(*cell, method, sizes, r) for cell in cells] for r in range(sizes.repetitions)]
            )
            errors[name, method] = rows
            x = np.array([cell[0 if name == "m" else 1] for cell in cells], dtype=float)
            for column, value in enumerate(x):
                points.append(Point(1, f"error_by_{name}", method, value, estimate(rows[:, column])))
            slopes = np.polyfit(np.log(x), np.log(rows).T, 1)[0]
            points.append(Point(1, f"exponent_{name}", method, np.nan, estimate(slopes)))
    ratios = np.concatenate([errors[name, "hps"] / errors[name, "pl"] for name in sweeps], axis=1)
    log_ratio = estimate(np.log(ratios).mean(axis=1))
    ratio = Estimate(*(float(np.exp(value)) for value in log_ratio[:3]), log_ratio.prompts)
    return [*points, Point(1, "error_ratio", "hps_over_pl", np.nan, ratio)]


# --- Theorem 2 -------------------------------------------------------------------------------------------------------


def worst_case(sizes: Sizes) -> list[Point]:
    """Theorem 2: the worst-case loss minus the HPS loss, against gamma, and what of it is left at the largest.

    `same`: the policy's scores are the rewards that weight the negatives. `other`: they are those of another parameter,
    so the hardest response by reward need not be the one that the policy scores highest.
    """
    m, n = max(sizes.prompts), max(sizes.responses)
    generator = np.random.default_rng(stable_hash(sizes.seed, "theorem 2"))
    theta = true_theta(sizes, 0)
    features = ranked(unit_features(m, n, sizes.dimension, generator), theta, None)
    across = generator.standard_normal(sizes.dimension)
    across -= across @ theta / (theta @ theta) * theta
    other = ANGLE * theta + np.sqrt(1 - ANGLE**2) * THETA_NORM * across / np.linalg.norm(across)
    points = []
    for method, policy in (("same", theta), ("other", other)):
        scores = features @ policy
        hardest = scores[:, 1:].max(axis=1) + np.log(n - 1) - scores[:, 0]
        worst = np.logaddexp(0, hardest)
        gaps = np.stack([worst - loss(hps_stages(features, features @ theta, gamma), policy) for gamma in GAMMAS])
        for gamma, gap in zip(GAMMAS, gaps, strict=True):
            points.append(Point(2, "gap", method, gamma, estimate(gap)))
        left = gaps[-1] / gaps[0].mean()
        points.append(Point(2, "gap_left", method, np.nan, estimate(left)))
    return points


# --- Theorem 3 -------------------------------------------------------------------------------------------------------


def direction(sizes: Sizes) -> list[Point]:
    """Theorem 3: cosine between the minimiser and the max-margin direction as the penalty on its norm goes to zero.

    The preferences are without noise, so a linear reward separates them and the minimiser's norm grows without end; x
    is that norm, on average.
    """
    cosines: dict[str, list[list[float]]] = {"hps": [], "hps_gamma5": [], "bt": []}
    norms: dict[str, list[list[float]]] = {name: [] for name in cosines}
    for repetition in range(sizes.repetitions):
        theta = true_theta(sizes, repetition)
        generator = np.random.default_rng(stable_hash(sizes.seed, "theorem 3", repetition))
        features = unit_features(SEPARABLE_PROMPTS, SEPARABLE_N, sizes.dimension, generator)
        features = ranked(features, theta, None)
        widest = max_margin(features)
        rewards = features @ theta
        methods = {"hps": hps_stages(features, rewards, 0.0), "hps_gamma5": hps_stages(features, rewards, 5.0)}
        methods["bt"] = bt_stages(features)
        for name, data in methods.items():
            path = _ridge_path(data)
            cosines[name].append([float(w @ widest / np.linalg.norm(w)) for w in path])
            norms[name].append([float(np.linalg.norm(w)) for w in path])
    points = []
    for name, rows in cosines.items():
        for column in range(len(RIDGES)):
            x = float(np.mean([row[column] for row in norms[name]]))
            points.append(Point(3, "cosine", name, x, estimate(np.array(rows)[:, column])))
        points.append(Point(3, "cosine_at_end", name, np.nan, estimate(np.array(rows)[:, -1])))
    return points


def _ridge_path(data: LinearStages) -> list[np.ndarray]:
    """Minimisers at falling penalties, each started at the one before."""
    path: list[np.ndarray] = []
    for ridge in RIDGES:
        path.append(minimise(data, ridge=ridge, start=path[-1] if path else None))
    return path
