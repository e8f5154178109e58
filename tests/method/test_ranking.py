"""One rule for best, worst, ties and "all equal": the losses, which rank in batches, follow it too."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hps.method import ranking
from hps.method.objectives import Objective

tied_rewards = st.lists(st.integers(-2, 2).map(float), min_size=2, max_size=7).filter(lambda r: min(r) < max(r))


@pytest.mark.parametrize(
    ("rewards", "order"),
    [([1, 3, 2], [1, 2, 0]), ([2, 2, 1, 1], [0, 1, 2, 3]), ([1, 1, 2], [2, 0, 1]), ([-0.0, 0.0], [0, 1])],
)
def test_order_by_hand(rewards, order):
    assert ranking.order(rewards).tolist() == order
    assert (ranking.best(rewards), ranking.worst(rewards)) == (order[0], order[-1])


def test_those_that_do_not_take_part_come_first():
    assert ranking.order([[5.0, 1.0, 3.0], [0.0, 1.0, 0.0]], [[False, True, True], [True, True, True]]).tolist() == [
        [0, 2, 1],
        [1, 0, 2],
    ]


@pytest.mark.parametrize(("rewards", "found"), [([], False), ([1], False), ([1, 1], False), ([1, 1, 0.5], True)])
def test_equal_rewards_compare_nothing(rewards, found):
    assert ranking.compares(rewards) is found


@given(rewards=tied_rewards)
def test_bt_is_best_against_worst(rewards):
    used = Objective("dpo", "bt").uses(torch.tensor([rewards], dtype=torch.float64))
    assert used.nonzero()[:, 1].tolist() == sorted({ranking.best(rewards), ranking.worst(rewards)})


@given(rewards=tied_rewards, data=st.data())
def test_pl_goes_through_the_order(rewards, data):
    """The loss is that of the ranking without ties in the order, but for those that tie with the best."""
    order = ranking.order(rewards)
    order = np.array([order[0], *(i for i in order[1:] if rewards[i] < max(rewards))])
    rho = torch.tensor(data.draw(st.lists(st.floats(-3, 3), min_size=len(rewards), max_size=len(rewards))))
    rho = rho.double()
    found = Objective("dpo", "pl")(rho[None], torch.tensor([rewards], dtype=torch.float64))
    untied = torch.arange(len(order), 0, -1, dtype=torch.float64)
    expected = Objective("dpo", "pl")(rho[order][None], untied[None])
    assert found.item() == pytest.approx(expected.item())
