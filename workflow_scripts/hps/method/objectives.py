"""Objectives: a parameterization times a loss (the modules beside this one), as a function of log-ratios.

The Snakefile lists the methods from here on machines without torch, so nothing here imports it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hps.method.losses import Loss, Ranking, grid_losses
from hps.method.parameterizations import Parameterization, Stages, grid_parameterizations

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Loss", "Objective", "Parameterization", "grid_losses", "grid_parameterizations"]


@dataclass(frozen=True)
class Objective:
    """One cell of the grid; `objective(log_ratios, rewards, ...)` is the loss of each prompt, unreduced.

    multiplicity is the N of Eq. 8 in `hps` and `hps_full`: "n_minus_1" counts the dispreferred responses in play
    (valid, and strictly below the best), which is n - 1 without ties; 1 is that of the authors' released code, and the
    total weight of the negatives in Eq. 10 read literally.
    label_smoothing None stands for the parameterization's default. Raises ValueError for a name that is not known
    (naming the closest), a beta that is not positive, and combinations that mean nothing.
    """

    parameterization: Parameterization | str = "exo"
    loss: Loss | str = "pl"
    beta: float = 0.1
    multiplicity: Literal["n_minus_1", 1] = "n_minus_1"
    label_smoothing: float | None = None

    def __post_init__(self) -> None:
        form, loss, eps = Parameterization(self.parameterization), Loss(self.loss), self.label_smoothing
        if not loss.takes(form):
            raise ValueError(
                f"loss {loss} scores with a form of its own, which leaves nothing of parameterization {form}"
            )
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta is {self.beta!r} where a positive number is expected")
        if self.multiplicity not in ("n_minus_1", 1):
            raise ValueError(f"multiplicity is {self.multiplicity!r} where 'n_minus_1' or 1 is expected")
        if eps is None:
            eps = form.label_smoothing
        elif form.label_smoothing is None:
            raise ValueError(f"label_smoothing is {eps!r}, but parameterization {form} has none")
        elif not 0 <= eps < 0.5 or (eps == 0 and form.label_smoothing > 0):  # exo's KL is infinite at 0
            lowest = "more than 0" if form.label_smoothing > 0 else "at least 0"
            raise ValueError(f"label_smoothing is {eps!r} where {form} takes {lowest} and less than 0.5")
        known = {"parameterization": form, "loss": loss, "label_smoothing": eps}
        for name, value in known.items():
            object.__setattr__(self, name, value)

    def __call__(
        self,
        log_ratios: Tensor,
        rewards: Tensor,
        mask: Tensor | None = None,
        negatives: Tensor | None = None,
        gamma: float | Tensor | None = None,
        *,
        factors: Tensor | None = None,
        valid_weights: Tensor | None = None,
    ) -> Tensor:
        """(B,) losses, differentiable in `log_ratios`, whose precision they have.

        log_ratios: (B, n) rho in nats, float32 or float64; for `simpo` the length-normalised log-probs of the policy.
            Values outside `uses` are not read: they may be NaN.
        rewards: (B, n) r, float32 or float64.
        mask: (B, n) bool, false for padding; None means all true.
        negatives: (B,) int64, index of the negative drawn for the prompt; read by the losses that
            sample one. With `valid_weights` also (B, n), a draw for each valid response.
        gamma: number or (B,), finite; read by `hps_full`.
        factors: (B, n) l(y_i) > 0 in place of beta, for `kto`.
        valid_weights: (B, n) lambda_v, positive for the valid responses of a prompt and 0 for the others; for `hps`
            and `hps_full`. Each valid response v is the positive of its own stage against the responses ranked below
            all valid ones, which N then counts, and the loss is `sum_v lambda_v L_v`. None means the best alone.

        Raises ValueError, naming the row where there is one: other shapes or types than these, rewards not finite, a
        prompt with nothing dispreferred, a negative that is not dispreferred, something needed that is not given.
        """
        _expect("log_ratios", log_ratios, (tuple(rewards.shape),), FLOATS)
        ranking = self._ranking(rewards, mask, negatives, gamma, valid_weights)
        log_weights = self.loss.stages(ranking).to(log_ratios.dtype)
        unused = ~_used(log_weights)
        factor: float | Tensor = self.beta
        if factors is not None:
            if not self.parameterization.takes_factors:
                raise ValueError(f"factors are given, but parameterization {self.parameterization} takes none")
            _expect("factors", factors, (tuple(rewards.shape),), FLOATS)
            factor = factors.to(log_ratios.dtype).masked_fill(unused, 1)
            _refuse(~(factor > 0) | ~factor.isfinite(), "a factor is not a positive number")
        h = factor * log_ratios.masked_fill(unused, 0)  # Eq. 3
        positive, against = h, h[:, None, :]  # row j of log_weights has positive j
        stage_weights = h.new_ones(h.shape) if valid_weights is None else valid_weights.to(h.dtype)
        if self.loss.pair_weights is not None:
            positive, against, log_weights = h[:, :, None], h[:, None, :, None], log_weights[..., None]
            stage_weights = self.loss.pair_weights(ranking, h.detach()).to(h.dtype)
        # A row without negatives is no stage. It gets some all the same, and its score is dropped: logsumexp over
        # nothing has no gradient but NaN.
        empty = (log_weights == -math.inf).all(-1)
        score = self.loss.score or self.parameterization.score
        log_weights = log_weights.masked_fill(empty[..., None], 0)
        losses = score(Stages(positive, against, log_weights, self.beta, self.label_smoothing))
        return (stage_weights * losses).masked_fill(empty, 0).flatten(1).sum(1)

    def uses(
        self,
        rewards: Tensor,
        mask: Tensor | None = None,
        negatives: Tensor | None = None,
        *,
        valid_weights: Tensor | None = None,
    ) -> Tensor:
        """(B, n) bool: the responses whose log-ratios enter the loss. Arguments and errors are those of the call."""
        ranking = self._ranking(rewards, mask, negatives, 0.0, valid_weights)  # who is a negative is not up to gamma
        return _used(self.loss.stages(ranking))

    def _ranking(
        self,
        rewards: Tensor,
        mask: Tensor | None,
        negatives: Tensor | None,
        gamma: float | Tensor | None,
        valid_weights: Tensor | None,
    ) -> Ranking:
        """Check what the call was given and rank the responses."""
        shape = tuple(rewards.shape)
        if len(shape) != 2:
            raise ValueError(f"rewards have shape {shape} where (B, n) is expected")
        _expect("rewards", rewards, (shape,), FLOATS)
        if mask is None:
            mask = rewards.new_ones(shape).bool()
        _expect("mask", mask, (shape,), ("torch.bool",))
        _refuse(~rewards.isfinite() & mask, "a reward is not finite")
        r = rewards.detach().masked_fill(~mask, 0)

        if valid_weights is None:
            best = mask & (r == r.masked_fill(~mask, -math.inf).amax(1, keepdim=True))
            positives = best & (best.cumsum(1) == 1)
        else:
            if not self.loss.takes_several_valid:
                raise ValueError(f"valid_weights are given, but loss {self.loss} has one positive at a time")
            _expect("valid_weights", valid_weights, (shape,), FLOATS)
            positives = valid_weights > 0
            _refuse(~valid_weights.isfinite() | (valid_weights < 0), "a valid weight is not a number of at least 0")
            _refuse(positives & ~mask, "a valid response is masked")
            _refuse(~positives.any(1), "no response is valid")
        _refuse(~mask.any(1), "every response is masked")
        dispreferred = mask & (r < r.masked_fill(~positives, math.inf).amin(1, keepdim=True))
        _refuse(~dispreferred.any(1), "nothing is dispreferred: no reward is below the best")

        log_multiplicity = 0.0 if self.multiplicity == 1 else dispreferred.sum(1)[:, None, None].to(r.dtype).log()
        if self.loss.samples_negative:
            if negatives is None:
                raise ValueError(f"loss {self.loss} needs negatives: the index drawn for each prompt")
            negatives = _checked_negatives(negatives, positives, dispreferred, several=valid_weights is not None)
        if self.loss.needs_gamma:
            if gamma is None:
                raise ValueError(f"loss {self.loss} needs gamma")
            given = tuple(getattr(gamma, "shape", ()))
            if given not in ((), shape[:1]):
                raise ValueError(f"gamma has shape {given} where a number or {shape[:1]} is expected")
            gamma = (r.new_zeros(shape[0]) + gamma)[:, None]
            _refuse(~gamma.isfinite(), "gamma is not finite")
        return Ranking(r, positives, dispreferred, log_multiplicity, negatives, gamma)


FLOATS = ("torch.float32", "torch.float64")  # sums of log-probs are too large for half precision


def _checked_negatives(negatives: Tensor, positives: Tensor, dispreferred: Tensor, several: bool) -> Tensor:
    """(B, n) index of the negative of each positive, 0 where there is no positive."""
    shape = tuple(positives.shape)
    _expect("negatives", negatives, (shape[:1], shape) if several else (shape[:1],), ("torch.int64",))
    each = negatives.reshape(shape[0], -1).expand(shape).masked_fill(~positives, 0)
    _refuse((each < 0) | (each >= shape[1]), f"the negative is not an index below {shape[1]}")
    _refuse(~dispreferred.gather(1, each) & positives, "the negative is masked or not ranked below the positive")
    return each


def _used(log_weights: Tensor) -> Tensor:
    pairs = log_weights > -math.inf
    return pairs.any(2) | pairs.any(1)


def _expect(name: str, value: Tensor, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...]) -> None:
    if tuple(value.shape) not in shapes or str(value.dtype) not in dtypes:
        expected = f"{' or '.join(map(str, shapes))} of {' or '.join(dtypes)}"
        raise ValueError(f"{name} has shape {tuple(value.shape)} of {value.dtype} where {expected} is expected")


def _refuse(wrong: Tensor, what: str) -> None:
    """Raise when anything is `wrong`, (B,) or (B, n), naming the first row."""
    if wrong.any():
        raise ValueError(f"row {wrong.nonzero()[0, 0].item()} of the batch: {what}")
