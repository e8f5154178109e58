"""Losses: which stages the scored responses of a prompt give, after a model of preference.

The stages of a prompt with n responses are an (n, n) matrix of log w: row j is the stage whose positive is response j,
column k its negative k, -inf where k is no negative of j; a row without negatives is no stage. Equations are those of
arXiv 2502.14400; tau is the ranking by annotated reward r, best first.

Ties (`ranking.py`): of the responses tied for the best, the first listed is the positive and the others take no part.
Below the best, tied responses rank as listed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hps.method.parameterizations import Choice, Hyperparameter, Parameterization, Stages, score_dpo
from hps.method.ranking import order

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Ranking:
    """B prompts of n responses each, as the losses see them.

    rewards: (B, n) r, finite, 0 where masked; positives: (B, n) bool, the best of each prompt; dispreferred: (B, n)
    bool, those that can be negatives; log_multiplicity: (B, 1, 1) log N, or 0.0; negatives: (B,) index of the negative
    drawn; gamma: (B, 1); hyperparameters: the objective's.
    """

    rewards: Tensor
    positives: Tensor
    dispreferred: Tensor
    log_multiplicity: Tensor | float = 0.0
    negatives: Tensor | None = None
    gamma: Tensor | None = None
    hyperparameters: Mapping[str, float] = field(default_factory=dict)

    @property
    def tau(self) -> Tensor:
        """(B, n) indices, the best first; the dispreferred, the last of them the worst, are at the end."""
        tau = order(self.rewards.numpy(force=True), self.dispreferred.numpy(force=True))
        return self.rewards.new_tensor(tau).long()

    @property
    def in_play(self) -> Tensor:
        """(B, n) bool: neither masked nor tied with the best."""
        return self.positives | self.dispreferred

    def log_weights(self, pairs: Tensor) -> Tensor:
        """(B, n, n) log 1 for the `pairs` of a positive in play and a dispreferred response, -inf elsewhere."""
        pairs = pairs & self.in_play[:, :, None] & self.dispreferred[:, None, :]
        return self.rewards.new_zeros(pairs.shape).masked_fill(~pairs, -math.inf)


def every_suffix(ranking: Ranking) -> Tensor:
    """tau(j) against tau(j+1) .. tau(n), for j = 1 .. n-1 (Eqs. 4, 5)."""
    place = ranking.tau.argsort(1)
    return ranking.log_weights(place[:, None, :] > place[:, :, None])


def best_and_worst(ranking: Ranking) -> Tensor:
    """tau(1) against tau(n) (Eq. 15)."""
    worst = ranking.positives.new_zeros(ranking.positives.shape).scatter(1, ranking.tau[:, -1:], True)
    return ranking.log_weights(ranking.positives[:, :, None] & worst[:, None, :])


def every_pair(ranking: Ranking) -> Tensor:
    """Every j against every k with r_j > r_k (Eq. 17)."""
    return ranking.log_weights(ranking.rewards[:, :, None] > ranking.rewards[:, None, :])


def best_and_drawn(ranking: Ranking) -> Tensor:
    """tau(1) against the one negative drawn from q, which stands for N of them (Eqs. 8, 9)."""
    drawn = ranking.positives.new_zeros(ranking.positives.shape).scatter(1, ranking.negatives[:, None], True)
    return ranking.log_weights(ranking.positives[:, :, None] & drawn[:, None, :]) + ranking.log_multiplicity


def best_and_all(ranking: Ranking) -> Tensor:
    """tau(1) against every dispreferred k, w_k = N q_k, q_k ~ exp(gamma r_k): the draw of Eq. 8 replaced by its mean.

    With N = 1 it is Eq. 10 read literally, p uniform over the dispreferred and q normalised to 1; with gamma = 0 and
    N the number of the dispreferred, Eq. 6.
    """
    exponents = (ranking.gamma * ranking.rewards).masked_fill(~ranking.dispreferred, -math.inf)
    log_q = exponents.log_softmax(1)[:, None, :]
    return ranking.log_weights(ranking.positives[:, :, None]) + log_q + ranking.log_multiplicity


def hinge(stages: Stages) -> Tensor:
    """`max(0, margin - m)`, of SLiC (Eq. 16), on h as in arXiv 2402.01878."""
    return (stages.hyperparameters["margin"] - stages.log_odds).relu()


def lambda_weights(ranking: Ranking, h: Tensor) -> Tensor:
    """(B, n, n) `|G_j - G_k| |1 / log2(1 + rank_j) - 1 / log2(1 + rank_k)|` (Eq. 17; LiPO-lambda, arXiv 2402.01878).

    G = 2^psi - 1, and rank counts from 1 by h (B, n), highest first, as in LiPO (which writes log for log2, a constant
    factor). Ours: psi in (0, 1) is the response's mean Bradley-Terry probability of winning, sigmoid(r_j - r_k), over
    the responses in play, since r has no scale of its own; and equal h rank by r, since a policy that still equals its
    reference would otherwise have only weights of 0 and never move. Responses equal in both share their mean rank.
    """
    h_j, h_k, r_j, r_k = h[:, :, None], h[:, None, :], ranking.rewards[:, :, None], ranking.rewards[:, None, :]
    rivals = ranking.in_play[:, None, :]
    ahead = ((h_k > h_j) | ((h_k == h_j) & (r_k > r_j))) & rivals
    level = (h_k == h_j) & (r_k == r_j) & rivals  # counts the response itself
    rank = ahead.sum(2) + (level.sum(2).clamp(min=1) + 1) / 2
    discount = 1 / (1 + rank.to(r_j.dtype)).log2()
    psi = ((r_j - r_k).sigmoid() * rivals).sum(2) / rivals.sum(2)
    gain = psi.exp2() - 1
    return (gain[:, :, None] - gain[:, None, :]).abs() * (discount[:, :, None] - discount[:, None, :]).abs()


@dataclass(frozen=True)
class PreferenceModel:
    """What a loss knows of itself."""

    stages: Callable[[Ranking], Tensor]  # to (B, n, n) log weights
    in_grid: bool = True  # belongs to the tables
    samples_negative: bool = False  # needs one drawn negative a prompt
    needs_gamma: bool = False  # weighs the negatives itself
    score: Callable[[Stages], Tensor] | None = None  # in place of the parameterization's
    pair_weights: Callable[[Ranking, Tensor], Tensor] | None = None  # every pair is a stage, with this weight
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)  # its own, by name


class Loss(Choice):
    """The losses, in the order of the tables. Another one is a line here with its stages above."""

    PL = "pl", PreferenceModel(every_suffix)
    BT = "bt", PreferenceModel(best_and_worst)
    HPS = "hps", PreferenceModel(best_and_drawn, samples_negative=True)

    HPS_FULL = "hps_full", PreferenceModel(best_and_all, in_grid=False, needs_gamma=True)
    SLIC = (
        "slic",
        PreferenceModel(
            best_and_worst, in_grid=False, score=hinge, hyperparameters={"margin": Hyperparameter(1.0, above=0)}
        ),
    )
    LIPO = "lipo", PreferenceModel(every_pair, in_grid=False, pair_weights=lambda_weights)

    def takes(self, parameterization: Parameterization) -> bool:
        """Whether the two combine: a loss with a score of its own would leave nothing of exo, ipo, sppo or nca."""
        return self.score is None or parameterization.score is score_dpo


def pool_size(loss: Loss | str, n: int, pl_responses: int) -> int:
    """Responses to a prompt that a run of n may use: n, or for `pl` the first `pl_responses` of them (0: all)."""
    return min(n, pl_responses) if Loss(loss) is Loss.PL and pl_responses else n


def responses_used(loss: Loss | str, pool: int) -> int:
    """Responses of a pool whose log-probs a loss reads."""
    return 2 if Loss(loss).stages in (best_and_worst, best_and_drawn) else pool


def grid_losses() -> list[Loss]:
    """The losses of the tables, in their order."""
    return [loss for loss in Loss if loss.in_grid]
