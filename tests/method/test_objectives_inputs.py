"""What an objective reads of its input, and what it refuses."""

import pytest
import torch

from hps.method.objectives import Loss, Objective, Parameterization

COMBINATIONS = [
    (parameterization, loss) for parameterization in Parameterization for loss in Loss if loss.takes(parameterization)
]
NAN = float("nan")

# Response 0 is the positive, 2 ties with it, 1 and 4 are the tied worst, 5 is padding.
REWARDS = torch.tensor([[3.0, 1.0, 3.0, 2.0, 1.0, 9.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True, True, True, False]])
NEGATIVES = torch.tensor([3])
LOG_RATIOS = torch.tensor([[0.3, -1.2, 2.0, 0.7, -0.4, 5.0]], dtype=torch.float64)


def responses(*indices):
    return [index in indices for index in range(6)]


def smoothing(parameterization, value):
    return {"parameterization": parameterization, "hyperparameters": {"label_smoothing": value}}


class TestUses:
    @pytest.mark.parametrize(
        ("loss", "used"),
        [
            ("pl", responses(0, 1, 3, 4)),
            ("bt", responses(0, 4)),  # of the tied worst the last listed
            ("slic", responses(0, 4)),
            ("hps", responses(0, 3)),
            ("hps_full", responses(0, 1, 3, 4)),
            ("lipo", responses(0, 1, 3, 4)),
        ],
    )
    def test_names_the_responses_of_the_stages(self, loss, used):
        assert Objective("dpo", loss).uses(REWARDS, MASK, NEGATIVES)[0].tolist() == used

    @pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
    def test_nothing_else_is_read(self, parameterization, loss):
        objective = Objective(parameterization, loss)
        uses = objective.uses(REWARDS, MASK, NEGATIVES)
        log_ratios = LOG_RATIOS.masked_fill(~uses, NAN).requires_grad_()
        got = objective(log_ratios, REWARDS, MASK, NEGATIVES, 1.0)
        got.sum().backward()
        assert got.item() == objective(LOG_RATIOS, REWARDS, MASK, NEGATIVES, 1.0).item()
        assert log_ratios.grad.isfinite().all()
        assert (log_ratios.grad[~uses] == 0).all()

    @pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
    def test_everything_named_is_read(self, parameterization, loss):
        objective = Objective(parameterization, loss)
        log_ratios = LOG_RATIOS.clone().requires_grad_()
        objective(log_ratios, REWARDS, MASK, NEGATIVES, 1.0).sum().backward()
        assert ((log_ratios.grad != 0) == objective.uses(REWARDS, MASK, NEGATIVES)).all()


class TestMask:
    @pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
    def test_is_the_same_as_leaving_the_response_out(self, parameterization, loss):
        objective = Objective(parameterization, loss)
        mask = torch.tensor([[True, False, True, True, True, False]])
        kept = mask[0].nonzero()[:, 0]
        short = objective(LOG_RATIOS[:, kept], REWARDS[:, kept], negatives=torch.tensor([2]), gamma=-2.0)
        padded = objective(LOG_RATIOS, REWARDS, mask, NEGATIVES, -2.0)
        torch.testing.assert_close(padded, short)

    @pytest.mark.parametrize(("parameterization", "loss"), COMBINATIONS)
    def test_prompts_of_a_batch_do_not_mix(self, parameterization, loss):
        objective = Objective(parameterization, loss)
        log_ratios = torch.cat([LOG_RATIOS, -2 * LOG_RATIOS])
        rewards = torch.cat([REWARDS, REWARDS.flip(1)])
        mask, negatives = torch.cat([MASK, torch.ones_like(MASK)]), torch.tensor([3, 4])
        together = objective(log_ratios, rewards, mask, negatives, 1.0)
        apart = [
            objective(log_ratios[i : i + 1], rewards[i : i + 1], mask[i : i + 1], negatives[i : i + 1], 1.0)
            for i in (0, 1)
        ]
        torch.testing.assert_close(together, torch.cat(apart))

    def test_what_it_hides_may_be_anything(self):
        rewards = REWARDS.masked_fill(~MASK, NAN)
        objective = Objective("exo", "pl")
        assert objective(LOG_RATIOS, rewards, MASK).item() == objective(LOG_RATIOS, REWARDS, MASK).item()

    def test_of_tied_best_the_first_listed_is_the_positive(self):
        one = torch.ones(1, 3, dtype=torch.float64)
        assert Objective("dpo", "bt").uses(one * torch.tensor([1, 2, 2]))[0].tolist() == [True, True, False]


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"parameterization": "exp"}, "'exp' is not a parameterization: did you mean 'exo'"),
            ({"parameterization": "DPO"}, "'DPO' is not a parameterization: did you mean 'dpo'"),
            ({"loss": "hsp"}, "'hsp' is not a loss: did you mean 'hps'"),
            ({"loss": ""}, "'' is not a loss"),
            ({"beta": 0.0}, "beta is 0.0"),
            ({"beta": -0.1}, "beta is -0.1"),
            ({"beta": NAN}, "beta is nan"),
            ({"beta": float("inf")}, "beta is inf"),
            ({"multiplicity": 2}, "multiplicity is 2"),
            ({"multiplicity": "n"}, "multiplicity is 'n'"),
            (smoothing("exo", 0.0), "label_smoothing is 0.0 where more than 0 and less than 0.5 is expected"),
            (smoothing("dpo", 0.5), "label_smoothing is 0.5 where at least 0 and less than 0.5 is expected"),
            (smoothing("dpo", NAN), "label_smoothing is nan"),
            (smoothing("ipo", 0.1), "neither parameterization ipo nor loss pl has it"),
            ({"parameterization": "kto", "hyperparameters": {"desirable": 0}}, "desirable is 0 where more than 0"),
            ({"parameterization": "exo", "loss": "slic"}, "loss slic .* parameterization exo"),
        ],
    )
    def test_of_settings(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            Objective(**arguments)

    @pytest.mark.parametrize(
        ("loss", "given", "message"),
        [
            ("hps", {}, "needs negatives"),
            ("hps_full", {}, "needs gamma"),
            ("hps_full", {"gamma": NAN}, "row 0 .* gamma is not finite"),
            ("hps_full", {"gamma": torch.zeros(3)}, r"gamma has shape \(3,\) where a number or \(1,\)"),
            ("hps", {"negatives": torch.tensor([6])}, "row 0 .* not an index below 6"),
            ("hps", {"negatives": torch.tensor([-1])}, "row 0 .* not an index below 6"),
            ("hps", {"negatives": torch.tensor([2])}, "row 0 .* not ranked below the positive"),
            ("hps", {"negatives": torch.tensor([0])}, "row 0 .* not ranked below the positive"),
            ("hps", {"negatives": torch.tensor([5])}, "row 0 .* masked"),
            ("hps", {"negatives": torch.tensor([3.0])}, "negatives has shape .* torch.float32"),
            ("hps", {"negatives": torch.tensor([[3]])}, "negatives has shape"),
            ("pl", {"log_ratios": LOG_RATIOS[:, :5]}, r"log_ratios has shape \(1, 5\) .* where \(1, 6\)"),
            ("pl", {"log_ratios": LOG_RATIOS.bfloat16()}, "log_ratios has shape .* torch.bfloat16"),
            ("pl", {"rewards": REWARDS[0], "log_ratios": LOG_RATIOS[0]}, r"shape \(6,\) where \(B, n\)"),
            ("pl", {"rewards": REWARDS.long()}, "rewards has shape .* torch.int64"),
            ("pl", {"mask": MASK[:, :5]}, "mask has shape"),
            ("pl", {"mask": MASK.long()}, "mask has shape .* torch.int64"),
            ("pl", {"mask": torch.zeros_like(MASK)}, "row 0 .* every response is masked"),
            ("pl", {"rewards": REWARDS.masked_fill(REWARDS == 2, NAN)}, "row 0 .* not finite"),
            ("pl", {"rewards": REWARDS * float("inf")}, "row 0 .* not finite"),
            ("pl", {"rewards": torch.ones_like(REWARDS)}, "row 0 .* nothing is dispreferred"),
        ],
    )
    def test_of_inputs(self, loss, given, message):
        arguments = {"log_ratios": LOG_RATIOS, "rewards": REWARDS, "mask": MASK} | given
        with pytest.raises(ValueError, match=message):
            Objective("dpo", loss)(**arguments)

    def test_names_the_row(self):
        rewards = torch.tensor([[1.0, 2.0], [3.0, 3.0]])
        with pytest.raises(ValueError, match="row 1 of the batch: nothing is dispreferred"):
            Objective()(torch.zeros(2, 2), rewards)
