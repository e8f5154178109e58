"""Parameterizations: how one stage, a positive against weighted negatives, is scored.

Notation of arXiv 2502.14400: `rho_i = log pi_theta(y_i | x) - log pi_ref(y_i | x)` in nats, `h_i = beta * rho_i` the
implicit reward (Eq. 3), p the positive, k the negatives, w_k > 0 their weights, `W = sum_k w_k`, eps the label
smoothing, a hyperparameter. Where the paper is silent (how exo, ipo, sppo and nca become list-wise), the forms here are
those in which a negative of weight w scores as w copies of it do, and which for one pair are the published pairwise
losses.

Nothing here imports torch, so that a machine without it can still list the methods.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Stages:
    """Any number (...) of stages with up to K negatives each. The shapes need only broadcast.

    positive: (...) h_p; negatives: (..., K) h_k; log_weights: (..., K) log w_k, -inf where the stage has no such
    negative (it has one at least).
    """

    positive: Tensor
    negatives: Tensor
    log_weights: Tensor
    beta: float
    hyperparameters: Mapping[str, float]

    @property
    def log_odds(self) -> Tensor:
        """(...) `m = h_p - logsumexp_k(h_k + log w_k)`."""
        return self.positive - (self.negatives + self.log_weights).logsumexp(-1)


def log_sigmoid(x: Tensor) -> Tensor:
    """`log sigmoid(x)`, finite with a finite gradient however large |x|."""
    return -(-x).logaddexp(x.new_zeros(()))


def score_dpo(stages: Stages) -> Tensor:
    """`-(1 - eps) log sigmoid(m) - eps log sigmoid(-m)`: Eqs. 4-6, 15; eps as in conservative DPO."""
    m, eps = stages.log_odds, stages.hyperparameters["label_smoothing"]
    return -(1 - eps) * log_sigmoid(m) - eps * log_sigmoid(-m)


def score_exo(stages: Stages) -> Tensor:
    """`KL(p || t)`, p the softmax of h_p and h_k + log w_k, t of 1 - eps and eps w_k / W (arXiv 2402.00856, Eq. 16)."""
    m, eps = stages.log_odds, stages.hyperparameters["label_smoothing"]
    log_p_positive = log_sigmoid(m)
    log_total = (stages.positive - log_p_positive)[..., None]
    p_negatives = (stages.negatives + stages.log_weights - log_total).exp()
    # log p_k - log t_k, in which log w_k cancels, so that nothing infinite meets p_k = 0
    log_ratios = stages.negatives - log_total - math.log(eps) + stages.log_weights.logsumexp(-1, keepdim=True)
    return m.sigmoid() * (log_p_positive - math.log1p(-eps)) + (p_negatives * log_ratios).sum(-1)


def score_ipo(stages: Stages) -> Tensor:
    """`(m / beta - 1 / (2 beta))^2` (arXiv 2310.12036, Eq. 17)."""
    return (stages.log_odds / stages.beta - 0.5 / stages.beta).square()


def score_sppo(stages: Stages) -> Tensor:
    """`(rho_p - 1 / (2 beta))^2 + sum_k w_k / W (rho_k + 1 / (2 beta))^2` (arXiv 2405.00675, probabilities 1 and 0)."""
    positive, negatives, target = stages.positive / stages.beta, stages.negatives / stages.beta, 0.5 / stages.beta
    shares = stages.log_weights.softmax(-1)
    return (positive - target).square() + (shares * (negatives + target).square()).sum(-1)


def score_nca(stages: Stages) -> Tensor:
    """`-ls(h_p) - (ls(-h_p) + sum_k w_k ls(-h_k)) / (1 + W)`, ls = log sigmoid (arXiv 2402.05369, reward 1 and 0)."""
    weights = stages.log_weights.exp()
    pushed_down = log_sigmoid(-stages.positive) + (weights * log_sigmoid(-stages.negatives)).sum(-1)
    return -log_sigmoid(stages.positive) - pushed_down / (1 + weights.sum(-1))


def score_kto(stages: Stages) -> Tensor:
    """As dpo, on `h_i = l(y_i) rho_i`: l is beta times `desirable` for the positive, `undesirable` for negatives."""
    factors = stages.hyperparameters
    return score_dpo(
        replace(
            stages,
            positive=factors["desirable"] * stages.positive,
            negatives=factors["undesirable"] * stages.negatives,
        )
    )


@dataclass(frozen=True)
class Hyperparameter:
    """A number that a parameterization or loss has of its own, and the values it may have."""

    default: float
    at_least: float = -math.inf
    above: float = -math.inf
    below: float = math.inf

    def check(self, name: str, value: float) -> None:
        """Raises ValueError, saying what is expected, when it may not have this value."""
        if not (value >= self.at_least and self.above < value < self.below):
            lowest = f"more than {self.above:g}" if self.above > -math.inf else f"at least {self.at_least:g}"
            highest = f" and less than {self.below:g}" if self.below < math.inf else ""
            raise ValueError(f"{name} is {value!r} where {lowest}{highest} is expected")


class Choice(StrEnum):
    """An enum whose members are their names and know more: the fields of the dataclass given with the name."""

    def __new__(cls, name: str, knows: Any) -> Choice:
        member = str.__new__(cls, name)
        member._value_ = name
        for trait, value in vars(knows).items():
            setattr(member, trait, value)
        return member

    @classmethod
    def _missing_(cls, value: object) -> None:
        names = [member.value for member in cls]
        closest = difflib.get_close_matches(str(value).lower(), names, n=1, cutoff=0)[0]
        raise ValueError(
            f"{value!r} is not a {cls.__name__.lower()}: did you mean {closest!r}? (There are {', '.join(names)}.)"
        )


@dataclass(frozen=True)
class ParameterizationTraits:
    """What a parameterization knows of itself."""

    score: Callable[[Stages], Tensor]
    hyperparameters: Mapping[str, Hyperparameter] = field(default_factory=dict)  # its own, by name
    in_grid: bool = True  # belongs to the tables
    needs_reference: bool = True  # its log-ratios need log pi_ref
    length_normalised: bool = False  # its log-probs are divided by the response's tokens


SMOOTHING = {"label_smoothing": Hyperparameter(0.0, at_least=0, below=0.5)}
FACTOR = Hyperparameter(1.0, above=0)


class Parameterization(Choice):
    """The parameterizations of the reward. Another one is a line here with its formula above.

    `in_grid` puts it into every table.
    """

    DPO = "dpo", ParameterizationTraits(score_dpo, SMOOTHING)
    # its KL is infinite without smoothing
    EXO = "exo", ParameterizationTraits(score_exo, {"label_smoothing": Hyperparameter(1e-3, above=0, below=0.5)})
    IPO = "ipo", ParameterizationTraits(score_ipo)
    SPPO = "sppo", ParameterizationTraits(score_sppo)
    NCA = "nca", ParameterizationTraits(score_nca)

    KTO = (
        "kto",
        ParameterizationTraits(score_kto, SMOOTHING | {"desirable": FACTOR, "undesirable": FACTOR}, in_grid=False),
    )
    # h_i = beta / |y_i| log pi_theta(y_i | x): the caller passes log pi_theta / |y_i| where others pass rho
    SIMPO = (
        "simpo",
        ParameterizationTraits(score_dpo, SMOOTHING, in_grid=False, needs_reference=False, length_normalised=True),
    )


def grid_parameterizations() -> list[Parameterization]:
    """The parameterizations of the tables, in their order."""
    return [one for one in Parameterization if one.in_grid]
