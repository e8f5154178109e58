"""The objectives on numbers worked by hand: with beta = 1/2 and rho = 2 ln a, every response has h = ln a."""

import subprocess
import sys
from math import log, log2
from pathlib import Path

import pytest
import torch

import hps
from hps.method.objectives import Loss, Objective, Parameterization, grid_losses, grid_parameterizations

REWARDS = torch.tensor([[2.0, 3.0, 1.0]], dtype=torch.float64)  # tau = 1, 0, 2
ODDS = [2.0, 6.0, 1.0]  # exp h, as listed
SECOND, WORST = torch.tensor([0]), torch.tensor([2])


def rho(odds):
    return torch.tensor([odds], dtype=torch.float64).log() * 2


def loss_of(
    parameterization, loss, *, odds=ODDS, rewards=REWARDS, multiplicity="n_minus_1", hyperparameters=(), **given
):
    objective = Objective(parameterization, loss, 0.5, multiplicity, dict(hyperparameters))
    return objective(rho(odds), rewards, **given).item()


def kl(p, t):
    return sum(a * log(a / b) for a, b in zip(p, t, strict=True))


class TestStagesUnderDpo:
    def test_pl_sums_a_stage_for_each_rank_but_the_last(self):
        assert loss_of("dpo", "pl") == pytest.approx(-log(6 / 9) - log(2 / 3))

    def test_bt_sets_the_best_against_the_worst(self):
        assert loss_of("dpo", "bt") == pytest.approx(-log(6 / 7))

    def test_hps_counts_the_drawn_negative_for_all_the_dispreferred(self):
        assert loss_of("dpo", "hps", negatives=SECOND) == pytest.approx(-log(6 / (6 + 2 * 2)))
        assert loss_of("dpo", "hps", negatives=WORST) == pytest.approx(-log(6 / (6 + 2 * 1)))

    def test_hps_of_the_released_code_is_a_pairwise_loss(self):
        assert loss_of("dpo", "hps", negatives=SECOND, multiplicity=1) == pytest.approx(-log(6 / 8))

    def test_hps_full_without_gamma_is_the_best_in_a_softmax_over_all(self):
        assert loss_of("dpo", "hps_full", gamma=0.0) == pytest.approx(-log(6 / (6 + 2 + 1)))

    def test_hps_full_weighs_the_dispreferred_by_q(self):
        # q is 3/4 and 1/4 for rewards 2 and 1
        given = {"gamma": log(3)}
        assert loss_of("dpo", "hps_full", **given) == pytest.approx(-log(6 / (6 + 1.5 * 2 + 0.5 * 1)))
        assert loss_of("dpo", "hps_full", multiplicity=1, **given) == pytest.approx(-log(6 / (6 + 0.75 * 2 + 0.25)))

    def test_gamma_may_differ_between_prompts(self):
        objective = Objective("dpo", "hps_full", beta=0.5)
        both = objective(rho(ODDS).repeat(2, 1), REWARDS.repeat(2, 1), gamma=torch.tensor([0.0, log(3)]))
        assert both.tolist() == pytest.approx([-log(6 / 9), -log(6 / 9.5)])

    def test_slic_is_a_hinge_on_best_and_worst(self):
        assert loss_of("dpo", "slic", odds=[5.0, 2.0, 1.0]) == pytest.approx(1 - log(2))
        assert loss_of("dpo", "slic") == 0  # ln 6 exceeds the margin of 1

    def test_lipo_weighs_every_pair_by_gain_and_discount(self):
        # Win probabilities 3/4 (one ln 3 apart) and 9/10 (two), 1/2 against itself; ranks by h: 2, 1, 3
        psi = [(0.5 + 0.75 + 0.9) / 3, 0.5, (0.1 + 0.25 + 0.5) / 3]
        gain = [2**p - 1 for p in psi]
        discount = [1 / log2(3), 1 / log2(2), 1 / log2(4)]
        odds = [2.0, 6.0, 1.0]
        expected = sum(
            (gain[i] - gain[j]) * abs(discount[i] - discount[j]) * -log(odds[i] / (odds[i] + odds[j]))
            for i, j in ((0, 1), (0, 2), (1, 2))
        )
        rewards = torch.tensor([[2 * log(3), log(3), 0.0]], dtype=torch.float64)
        assert loss_of("dpo", "lipo", rewards=rewards) == pytest.approx(expected)

    def test_lipo_ranks_equal_responses_between_their_places(self):
        # all h are 0; psi is 2/3 for the best and 5/12 for the two below, whose rank is 2.5
        rewards = torch.tensor([[log(3), 0.0, 0.0]], dtype=torch.float64)
        weight = (2 ** (2 / 3) - 2 ** (5 / 12)) * (1 - 1 / log2(3.5))
        assert loss_of("dpo", "lipo", odds=[1.0, 1.0, 1.0], rewards=rewards) == pytest.approx(2 * weight * log(2))

    def test_lipo_moves_a_policy_that_equals_its_reference(self):
        log_ratios = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        Objective("dpo", "lipo")(log_ratios, REWARDS).sum().backward()
        assert log_ratios.grad[0, 1] < 0 < log_ratios.grad[0, 2]


class TestRewards:
    def test_dpo_with_label_smoothing(self):
        expected = -0.9 * log(6 / 7) - 0.1 * log(1 / 7)
        assert loss_of("dpo", "bt", hyperparameters={"label_smoothing": 0.1}) == pytest.approx(expected)

    def test_exo_is_the_divergence_from_smoothed_labels(self):
        eps = {"hyperparameters": {"label_smoothing": 0.25}}
        assert loss_of("exo", "bt", **eps) == pytest.approx(kl([6 / 7, 1 / 7], [3 / 4, 1 / 4]))
        first = kl([6 / 9, 2 / 9, 1 / 9], [3 / 4, 1 / 8, 1 / 8])
        assert loss_of("exo", "pl", **eps) == pytest.approx(first + kl([2 / 3, 1 / 3], [3 / 4, 1 / 4]))
        # two copies of the drawn negative carry 2/10 and 1/8 each
        assert loss_of("exo", "hps", negatives=SECOND, **eps) == pytest.approx(
            kl([6 / 10, 2 / 10, 2 / 10], [3 / 4, 1 / 8, 1 / 8])
        )

    def test_exo_smooths_by_a_thousandth(self):
        assert loss_of("exo", "bt") == pytest.approx(kl([6 / 7, 1 / 7], [0.999, 0.001]))

    def test_ipo_regresses_the_log_odds(self):
        assert loss_of("ipo", "bt") == pytest.approx((2 * log(6) - 1) ** 2)
        assert loss_of("ipo", "pl") == pytest.approx((2 * log(6 / 3) - 1) ** 2 + (2 * log(2) - 1) ** 2)
        assert loss_of("ipo", "hps", negatives=SECOND) == pytest.approx((2 * log(6 / 4) - 1) ** 2)

    def test_sppo_regresses_each_log_ratio(self):
        best = (2 * log(6) - 1) ** 2
        assert loss_of("sppo", "bt") == pytest.approx(best + 1)
        first = best + ((2 * log(2) + 1) ** 2 + 1) / 2
        assert loss_of("sppo", "pl") == pytest.approx(first + (2 * log(2) - 1) ** 2 + 1)
        assert loss_of("sppo", "hps", negatives=SECOND) == pytest.approx(best + (2 * log(2) + 1) ** 2)

    def test_nca_classifies_each_response(self):
        assert loss_of("nca", "bt") == pytest.approx(-log(6 / 7) - (log(1 / 7) + log(1 / 2)) / 2)
        first = -log(6 / 7) - (log(1 / 7) + log(1 / 3) + log(1 / 2)) / 3
        second = -log(2 / 3) - (log(1 / 3) + log(1 / 2)) / 2
        assert loss_of("nca", "pl") == pytest.approx(first + second)
        assert loss_of("nca", "hps", negatives=SECOND) == pytest.approx(-log(6 / 7) - (log(1 / 7) + 2 * log(1 / 3)) / 3)

    def test_kto_scales_by_its_factors(self):
        # h = factor * ln a: ln 36 for the best, ln 1 for the worst
        factors = {"desirable": 2.0, "undesirable": 3.0}
        assert loss_of("kto", "bt", hyperparameters=factors) == pytest.approx(-log(36 / 37))
        assert loss_of("kto", "hps", negatives=SECOND, multiplicity=1, hyperparameters=factors) == pytest.approx(
            -log(36 / 44)
        )
        assert loss_of("kto", "bt") == loss_of("dpo", "bt")

    def test_slic_has_a_margin(self):
        assert loss_of("dpo", "slic", hyperparameters={"margin": 5.0}) == pytest.approx(5 - log(6))

    def test_simpo_scores_normalised_log_probs_as_dpo_scores_log_ratios(self):
        assert loss_of("simpo", "pl") == pytest.approx(-log(6 / 9) - log(2 / 3))
        assert Parameterization.SIMPO.length_normalised
        assert not Parameterization.SIMPO.needs_reference


class TestNames:
    def test_the_grid_is_the_paper_s_tables(self):
        methods = [
            f"{parameterization}-{loss}" for parameterization in grid_parameterizations() for loss in grid_losses()
        ]
        assert methods[:4] == ["dpo-pl", "dpo-bt", "dpo-hps", "exo-pl"]
        assert methods[-1] == "nca-hps"
        assert len(methods) == 15

    def test_a_member_is_its_name_and_knows_its_properties(self):
        assert Loss("hps") is Loss.HPS
        assert [loss for loss in Loss if loss.samples_negative] == ["hps"]
        assert [loss for loss in Loss if loss.needs_gamma] == ["hps_full"]
        assert {parameterization for parameterization in Parameterization if not parameterization.in_grid} == {
            "kto",
            "simpo",
        }
        assert {loss for loss in Loss if not loss.in_grid} == {"hps_full", "slic", "lipo"}

    def test_defaults_are_resolved(self):
        assert Objective() == Objective(Parameterization.EXO, Loss.PL, 0.1, "n_minus_1", {"label_smoothing": 1e-3})
        assert Objective("dpo").hyperparameters == {"label_smoothing": 0}
        assert Objective("ipo").hyperparameters == {}

    def test_listing_the_methods_does_not_load_torch(self):
        code = "import sys, hps.method.objectives, hps.method.sampling; sys.exit('torch' in sys.modules)"
        scripts = Path(hps.__file__).parents[1]
        assert subprocess.run([sys.executable, "-c", code], cwd=scripts).returncode == 0
