"""Laws that every combination of parameterization and loss keeps, on responses drawn at random, in float64."""

from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hps.method.objectives import Loss, Objective, Parameterization
from hps.method.parameterizations import Stages

COMBINATIONS = [
    (parameterization, loss) for parameterization in Parameterization for loss in Loss if loss.takes(parameterization)
]
few = settings(max_examples=25, deadline=None, derandomize=True)


def numbers(size):
    return st.lists(st.floats(-30, 30), min_size=size, max_size=size)


def distinct(size):
    """Rewards without ties, which listing order would have to break."""
    return st.lists(st.integers(-50, 50), min_size=size, max_size=size, unique=True)


sizes = st.integers(2, 7)
prompts = sizes.flatmap(lambda n: st.tuples(numbers(n), distinct(n), st.permutations(range(n)), st.integers(0, n - 2)))


def tensors(rho, rewards):
    return torch.tensor([rho], dtype=torch.float64), torch.tensor([rewards], dtype=torch.float64) / 10


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def negative(rewards, easier):
    """The dispreferred response with `easier` easier ones."""
    return rewards.argsort(1)[:, easier]


@pytest.mark.parametrize("parameterization", Parameterization)
@few
@given(h=st.floats(-30, 30), negatives=sizes.flatmap(numbers), data=st.data())
def test_replication(parameterization, h, negatives, data):
    """A negative of whole weight w scores as w copies of it, each of weight 1."""
    copies = data.draw(st.lists(st.integers(1, 6), min_size=len(negatives), max_size=len(negatives)))
    positive = torch.tensor([h], dtype=torch.float64)
    h_k, w = torch.tensor([negatives], dtype=torch.float64), torch.tensor([copies], dtype=torch.float64)
    copied = h_k.repeat_interleave(torch.tensor(copies), dim=1)
    own = {name: one.default for name, one in parameterization.hyperparameters.items()}
    weighted = parameterization.score(Stages(positive, h_k, w.log(), 0.1, own))
    close(weighted, parameterization.score(Stages(positive, copied, torch.zeros_like(copied), 0.1, own)))


@pytest.mark.parametrize("parameterization", Parameterization)
@few
@given(rho=numbers(2), rewards=distinct(2), gamma=st.floats(-5, 5))
def test_reduction(parameterization, rho, rewards, gamma):
    """Of two responses, pl, hps and hps_full are bt."""
    log_ratios, rewards = tensors(rho, rewards)
    bt = Objective(parameterization, "bt")(log_ratios, rewards)
    for loss in ("pl", "hps", "hps_full"):
        close(Objective(parameterization, loss)(log_ratios, rewards, negatives=negative(rewards, 0), gamma=gamma), bt)


@pytest.mark.parametrize("parameterization", Parameterization)
@pytest.mark.parametrize("multiplicity", ["n_minus_1", 1])
@few
@given(prompt=prompts)
def test_limits_of_gamma(parameterization, multiplicity, prompt):
    """hps_full at large gamma is hps with the hardest negative, at very negative gamma with the easiest."""
    log_ratios, rewards = tensors(*prompt[:2])
    full, drawn = (Objective(parameterization, loss, multiplicity=multiplicity) for loss in ("hps_full", "hps"))
    for gamma, easier in ((1e4, rewards.shape[1] - 2), (-1e4, 0)):
        expected = drawn(log_ratios, rewards, negatives=negative(rewards, easier))
        close(full(log_ratios, rewards, gamma=gamma), expected)


@few
@given(prompt=prompts)
def test_hps_full_without_gamma_is_the_softmax_loss(prompt):
    """Eq. 6: the best response in a softmax over all."""
    log_ratios, rewards = tensors(*prompt[:2])
    softmax = -(0.1 * log_ratios).log_softmax(1).gather(1, rewards.argmax(1, keepdim=True))[:, 0]
    close(Objective("dpo", "hps_full")(log_ratios, rewards, gamma=0.0), softmax)


@few
@given(prompt=prompts)
def test_pl_under_dpo_is_the_likelihood_of_the_ranking(prompt):
    """Eq. 4 by the chain rule: probabilities of all rankings of the same responses sum to one."""
    log_ratios = torch.tensor([prompt[0][:4]], dtype=torch.float64)
    rankings = torch.tensor(list(permutations(range(log_ratios.shape[1]))), dtype=torch.float64)
    losses = Objective("dpo", "pl")(log_ratios.expand(rankings.shape), rankings)
    close((-losses).exp().sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
@few
@given(prompt=prompts)
def test_the_order_of_listing_does_not_matter(parameterization, loss, prompt):
    rho, rewards, permutation, easier = prompt
    log_ratios, rewards = tensors(rho, rewards)
    objective = Objective(parameterization, loss)
    as_listed = objective(log_ratios, rewards, negatives=negative(rewards, easier), gamma=0.5)
    log_ratios, rewards = log_ratios[:, permutation], rewards[:, permutation]
    close(objective(log_ratios, rewards, negatives=negative(rewards, easier), gamma=0.5), as_listed)


@pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
@few
@given(prompt=prompts)
def test_the_first_step_raises_the_best_and_lowers_the_worst(parameterization, loss, prompt):
    """The gradient where the policy equals its reference: all log-ratios are 0."""
    log_ratios, rewards = tensors(*prompt[:2])
    log_ratios = torch.zeros_like(log_ratios, requires_grad=True)
    Objective(parameterization, loss)(log_ratios, rewards, negatives=negative(rewards, 0), gamma=0.5).sum().backward()
    gradient = log_ratios.grad[0]
    assert gradient[rewards[0].argmax()] < 0 < gradient[rewards[0].argmin()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
def test_finite_for_large_rewards(parameterization, loss, dtype):
    """|h| of 1e4, and of 1e6, in all patterns of signs: no infinity, no NaN, in the loss or its gradient."""
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 4).to(dtype)
    rewards = torch.tensor([[3.0, 2.0, 1.0, 0.0]], dtype=torch.float64).expand(signs.shape)
    for size in (1e4, 1e6):
        log_ratios = (signs * size / 0.1).requires_grad_()
        negatives = torch.full((len(signs),), 2)
        losses = Objective(parameterization, loss)(log_ratios, rewards, negatives=negatives, gamma=-5.0)
        losses.sum().backward()
        assert losses.dtype == dtype
        assert losses.isfinite().all()
        assert log_ratios.grad.isfinite().all()


@pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
def test_gradcheck(parameterization, loss):
    generator = torch.Generator().manual_seed(5)
    log_ratios = torch.randn(3, 5, dtype=torch.float64, generator=generator).mul(1.5).requires_grad_()
    rewards = torch.tensor([[0.1, 0.9, 0.5, 0.3, 0.9], [2, 1, 0, 1, 0], [5, 4, 3, 2, 1]], dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True] * 5, [True, True, True, False, False]])
    objective = Objective(parameterization, loss, beta=0.2)
    negatives = torch.tensor([2, 4, 1])
    losses = objective(log_ratios, rewards, mask, negatives, 0.5)
    assert (losses > 1e-3).all()  # the hinge, too, is off its kink and its flat part
    assert torch.autograd.gradcheck(lambda x: objective(x, rewards, mask, negatives, 0.5), log_ratios)


def test_hps_is_on_average_no_larger_than_hps_full():
    """The full sum takes the mean over the draw within the logarithm: by Jensen the draws cost no more on average."""
    log_ratios, rewards = tensors([3.0, -2.0, 5.0, 1.0], [40, 30, 20, 10])
    q = (rewards[0, 1:] * 0.5).softmax(0)
    drawn = Objective("dpo", "hps")
    losses = torch.cat([drawn(log_ratios, rewards, negatives=torch.tensor([k])) for k in (1, 2, 3)])
    full = Objective("dpo", "hps_full")(log_ratios, rewards, gamma=0.5)[0]
    assert (q * losses).sum() < full
