"""The objectives against independent forms: the published pairwise losses, and a loop over the stages of a list."""

from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from hps.method.objectives import Objective, Parameterization, grid_parameterizations

BETA, EPS = 0.3, 0.1


def log_sigmoid(x):
    return log(1 / (1 + exp(-x)))


# The loss types of TRL's DPOTrainer, as functions of the log-ratios a (chosen) and b (rejected).
def sigmoid(a, b, eps=0.0):
    logits = a - b
    return -F.logsigmoid(BETA * logits) * (1 - eps) - F.logsigmoid(-BETA * logits) * eps


def exo_pair(a, b, eps=1e-3):
    logits = BETA * (a - b)
    chosen = logits.sigmoid() * (F.logsigmoid(logits) - log(1 - eps))
    return chosen + (-logits).sigmoid() * (F.logsigmoid(-logits) - log(eps))


def ipo(a, b):
    return (a - b - 1 / (2 * BETA)) ** 2


def sppo_hard(a, b):
    return (a - 0.5 / BETA) ** 2 + (b + 0.5 / BETA) ** 2


def nca_pair(a, b):
    return -F.logsigmoid(BETA * a) - 0.5 * F.logsigmoid(-BETA * a) - 0.5 * F.logsigmoid(-BETA * b)


PUBLISHED = [
    ("dpo", None, sigmoid),
    ("dpo", EPS, lambda a, b: sigmoid(a, b, EPS)),
    ("exo", None, exo_pair),
    ("exo", EPS, lambda a, b: exo_pair(a, b, EPS)),
    ("ipo", None, ipo),
    ("sppo", None, sppo_hard),
    ("nca", None, nca_pair),
]


@pytest.mark.parametrize(("parameterization", "eps", "published"), PUBLISHED)
@pytest.mark.parametrize("loss", ["pl", "bt", "hps", "hps_full"])
def test_of_two_responses_every_loss_is_the_published_pairwise_one(parameterization, eps, published, loss):
    a, b = torch.randn(2, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 8
    rewards = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(50, 2)
    own = {} if eps is None else {"label_smoothing": eps}
    objective = Objective(parameterization, loss, beta=BETA, hyperparameters=own)
    ours = objective(torch.stack([b, a], 1), rewards, negatives=torch.zeros(50, dtype=torch.int64), gamma=2.0)
    torch.testing.assert_close(ours, published(a, b))


def stage(parameterization, rho_p, rho_k, w):
    """The score of one stage, written with plain numbers; weights w beside the negatives rho_k."""
    h_p, h_k = BETA * rho_p, [BETA * rho for rho in rho_k]
    total = sum(w)
    m = h_p - log(sum(weight * exp(h) for weight, h in zip(w, h_k, strict=True)))
    if parameterization in ("dpo", "kto", "simpo"):
        return -log_sigmoid(m)
    if parameterization == "exo":
        mass = [exp(h_p), *(weight * exp(h) for weight, h in zip(w, h_k, strict=True))]
        target = [1 - 1e-3, *(1e-3 * weight / total for weight in w)]
        return sum(x / sum(mass) * log(x / sum(mass) / t) for x, t in zip(mass, target, strict=True))
    if parameterization == "ipo":
        return (m / BETA - 1 / (2 * BETA)) ** 2
    if parameterization == "sppo":
        down = sum(weight / total * (rho + 1 / (2 * BETA)) ** 2 for weight, rho in zip(w, rho_k, strict=True))
        return (rho_p - 1 / (2 * BETA)) ** 2 + down
    down = sum(weight * log_sigmoid(-h) for weight, h in zip(w, h_k, strict=True))
    return -log_sigmoid(h_p) - (log_sigmoid(-h_p) + down) / (1 + total)


def ranked(rho, rewards, mask):
    """(r, rho) of the responses in play, best first, ties as listed, without those tied with the best."""
    listed = [(r, x) for r, x, valid in zip(rewards, rho, mask, strict=True) if valid]
    tau = sorted(listed, key=lambda response: -response[0])
    return tau[:1] + [response for response in tau[1:] if response[0] < tau[0][0]]


def prompts(count, n, seed):
    """Prompts with masked responses and many ties: rewards are whole numbers from 0 to 4."""
    generator = torch.Generator().manual_seed(seed)
    rho = torch.randn(count, n, dtype=torch.float64, generator=generator) * 5
    rewards = torch.randint(0, 5, (count, n), generator=generator).double()
    mask = torch.rand(count, n, generator=generator) < 0.8
    rewards[:, 0], rewards[:, 1] = 4, 1
    mask[:, :2] = True
    return rho, rewards, mask


@pytest.mark.parametrize("parameterization", grid_parameterizations())
def test_pl_equals_a_loop_over_its_stages(parameterization):
    rho, rewards, mask = prompts(20, 9, seed=1)
    ours = Objective(parameterization, "pl", beta=BETA)(rho, rewards, mask)
    for i in range(20):
        tau = ranked(rho[i].tolist(), rewards[i].tolist(), mask[i].tolist())
        stages = [
            stage(parameterization, tau[j][1], [x for _, x in tau[j + 1 :]], [1.0] * (len(tau) - j - 1))
            for j in range(len(tau) - 1)
        ]
        assert ours[i].item() == pytest.approx(sum(stages))


def test_pl_of_a_hundred_responses_is_the_cumulated_softmax():
    """Eq. 5 under dpo is `sum_j log sum_{k >= j} exp h_k - h_j` over the ranking."""
    generator = torch.Generator().manual_seed(4)
    rho = torch.randn(8, 100, dtype=torch.float64, generator=generator) * 20
    rewards = torch.randn(8, 100, dtype=torch.float64, generator=generator)
    h = (BETA * rho).gather(1, rewards.argsort(1))  # worst first
    expected = (h.logcumsumexp(1) - h)[:, 1:].sum(1)
    torch.testing.assert_close(Objective("dpo", "pl", beta=BETA)(rho, rewards), expected)


@pytest.mark.parametrize("parameterization", grid_parameterizations())
@pytest.mark.parametrize("multiplicity", ["n_minus_1", 1])
def test_hps_full_equals_its_stage_written_out(parameterization, multiplicity):
    rho, rewards, mask = prompts(20, 9, seed=2)
    ours = Objective(parameterization, "hps_full", beta=BETA, multiplicity=multiplicity)(rho, rewards, mask, gamma=-0.7)
    for i in range(20):
        (_, best), *rest = ranked(rho[i].tolist(), rewards[i].tolist(), mask[i].tolist())
        mass = [exp(-0.7 * r) for r, _ in rest]
        count = len(rest) if multiplicity == "n_minus_1" else 1
        weights = [count * x / sum(mass) for x in mass]
        assert ours[i].item() == pytest.approx(stage(parameterization, best, [x for _, x in rest], weights))


@pytest.mark.parametrize("parameterization", [*grid_parameterizations(), Parameterization.KTO, Parameterization.SIMPO])
def test_hps_counts_the_dispreferred_in_play(parameterization):
    rho, rewards, mask = prompts(20, 9, seed=3)
    ours = Objective(parameterization, "hps", beta=BETA)(
        rho, rewards, mask, negatives=torch.ones(20, dtype=torch.int64)
    )
    for i in range(20):
        (_, best), *rest = ranked(rho[i].tolist(), rewards[i].tolist(), mask[i].tolist())
        assert ours[i].item() == pytest.approx(stage(parameterization, best, [rho[i, 1].item()], [float(len(rest))]))


@pytest.mark.parametrize("parameterization", grid_parameterizations())
def test_lipo_of_two_responses_weighs_the_pairwise_loss(parameterization):
    """The one pair has gains of psi = 5/8 and 3/8, and discounts of ranks 1 and 2."""
    rho = torch.tensor([[1.5, -0.5]], dtype=torch.float64)
    rewards = torch.tensor([[log(3), 0.0]], dtype=torch.float64)
    weight = (2**0.625 - 2**0.375) * (1 - log(2) / log(3))
    ours = Objective(parameterization, "lipo", beta=BETA)(rho, rewards).item()
    assert ours == pytest.approx(weight * stage(parameterization, 1.5, [-0.5], [1.0]))
