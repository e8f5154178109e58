"""Objectives: a parameterization times a loss (the modules beside this one), as a function of log-ratios.

The Snakefile lists the methods from here on machines without torch, so nothing here imports it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    hyperparameters are those that the parameterization and the loss declare, by name; one not given has its default.
    Raises ValueError for a name that is not known (naming the closest), a value out of bounds, and combinations that
    mean nothing.
    """

    parameterization: Parameterization | str = "exo"
    loss: Loss | str = "pl"
    beta: float = 0.1
    multiplicity: Literal["n_minus_1", 1] = "n_minus_1"
    hyperparameters: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        form, loss = Parameterization(self.parameterization), Loss(self.loss)
        if not loss.takes(form):
            raise ValueError(
                f"loss {loss} scores with a form of its own, which leaves nothing of parameterization {form}"
            )
        if not 0 < self.beta < math.inf:
            raise ValueError(f"beta is {self.beta!r} where a positive number is expected")
        if self.multiplicity not in ("n_minus_1", 1):
            raise ValueError(f"multiplicity is {self.multiplicity!r} where 'n_minus_1' or 1 is expected")
        declared = {**form.hyperparameters, **loss.hyperparameters}
        values = {name: one.default for name, one in declared.items()} | dict(self.hyperparameters)
        for name, value in values.items():
            if name not in declared:
                raise ValueError(f"{name} is {value!r}, but neither parameterization {form} nor loss {loss} has it")
            declared[name].check(name, value)
        for name, value in {"parameterization": form, "loss": loss, "hyperparameters": values}.items():
            object.__setattr__(self, name, value)

    def __call__(
        self,
        log_ratios: Tensor,
        rewards: Tensor,
        mask: Tensor | None = None,
        negatives: Tensor | None = None,
        gamma: float | Tensor | None = None,
    ) -> Tensor:
        """(B,) losses, differentiable in `log_ratios`, whose precision they have.

        log_ratios: (B, n) rho in nats, float32 or float64; for `simpo` the length-normalised log-probs of the policy.
            Values outside `uses` are not read: they may be NaN.
        rewards: (B, n) r, float32 or float64.
        mask: (B, n) bool, false for padding; None means all true.
        negatives: (B,) int64, index of the negative drawn for the prompt; read by the losses that
            sample one.
        gamma: number or (B,), finite; read by `hps_full`.

        Raises ValueError, naming the row where there is one: other shapes or types than these, rewards not finite, a
        prompt with nothing dispreferred, a negative that is not dispreferred, something needed that is not given.
        """
        _expect("log_ratios", log_ratios, (tuple(rewards.shape),), FLOATS)
        ranking = self._ranking(rewards, mask, negatives, gamma)
        log_weights = self.loss.stages(ranking).to(log_ratios.dtype)
        unused = ~_used(log_weights)
        h = self.beta * log_ratios.masked_fill(unused, 0)  # Eq. 3
        positive, against = h, h[:, None, :]  # row j of log_weights has positive j
        stage_weights = h.new_ones(())
        if self.loss.pair_weights is not None:
            positive, against, log_weights = h[:, :, None], h[:, None, :, None], log_weights[..., None]
            stage_weights = self.loss.pair_weights(ranking, h.detach()).to(h.dtype)
        # A row without negatives is no stage. It gets some all the same, and its score is dropped: logsumexp over
        # nothing has no gradient but NaN.
        empty = (log_weights == -math.inf).all(-1)
        score = self.loss.score or self.parameterization.score
        log_weights = log_weights.masked_fill(empty[..., None], 0)
        losses = score(Stages(positive, against, log_weights, self.beta, self.hyperparameters))
        return (stage_weights * losses).masked_fill(empty, 0).flatten(1).sum(1)

    def uses(
        self,
        rewards: Tensor,
        mask: Tensor | None = None,
        negatives: Tensor | None = None,
    ) -> Tensor:
        """(B, n) bool: the responses whose log-ratios enter the loss. Arguments and errors are those of the call."""
        ranking = self._ranking(rewards, mask, negatives, 0.0)  # who is a negative is not up to gamma
        return _used(self.loss.stages(ranking))

    def _ranking(
        self,
        rewards: Tensor,
        mask: Tensor | None,
        negatives: Tensor | None,
        gamma: float | Tensor | None,
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

        best = mask & (r == r.masked_fill(~mask, -math.inf).amax(1, keepdim=True))
        positives = best & (best.cumsum(1) == 1)
        _refuse(~mask.any(1), "every response is masked")
        dispreferred = mask & ~best
        _refuse(~dispreferred.any(1), "nothing is dispreferred: no reward is below the best")

        log_multiplicity = 0.0 if self.multiplicity == 1 else dispreferred.sum(1)[:, None, None].to(r.dtype).log()
        if self.loss.samples_negative:
            if negatives is None:
                raise ValueError(f"loss {self.loss} needs negatives: the index drawn for each prompt")
            negatives = _checked_negatives(negatives, dispreferred)
        if self.loss.needs_gamma:
            if gamma is None:
                raise ValueError(f"loss {self.loss} needs gamma")
            given = tuple(getattr(gamma, "shape", ()))
            if given not in ((), shape[:1]):
                raise ValueError(f"gamma has shape {given} where a number or {shape[:1]} is expected")
            gamma = (r.new_zeros(shape[0]) + gamma)[:, None]
            _refuse(~gamma.isfinite(), "gamma is not finite")
        return Ranking(r, positives, dispreferred, log_multiplicity, negatives, gamma, self.hyperparameters)


FLOATS = ("torch.float32", "torch.float64")  # sums of log-probs are too large for half precision


def _checked_negatives(negatives: Tensor, dispreferred: Tensor) -> Tensor:
    """(B,) the index of each prompt's negative."""
    _expect("negatives", negatives, ((len(dispreferred),),), ("torch.int64",))
    size = dispreferred.shape[1]
    _refuse((negatives < 0) | (negatives >= size), f"the negative is not an index below {size}")
    _refuse(
        ~dispreferred.gather(1, negatives[:, None])[:, 0], "the negative is masked or not ranked below the positive"
    )
    return negatives


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
