"""Batches: everything exactly once, within the budget, the same for the same seed."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hps.logprobs import batches

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@given(LENGTHS, st.integers(1, 200))
def test_token_budget_holds_each_sequence_once_within_the_budget(lengths, budget):
    made = batches.by_token_budget(lengths, budget)
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget for batch in made)


def test_token_budget_by_hand():
    # longest first; 2 x 5 = 10 fits, a third of up to 5 would make 15
    assert batches.by_token_budget([3, 5, 1, 5, 2], 10) == [[1, 3], [0, 4, 2]]


@given(LENGTHS, st.integers(1, 7), st.integers(0, 3))
def test_epochs_hold_each_item_once_and_follow_the_seed(lengths, size, seed):
    def epochs(make, amount):
        generator = torch.Generator().manual_seed(seed)
        return [make(lengths, amount, generator) for _ in range(2)]

    for make, amount in ((batches.epoch_by_count, size), (batches.epoch_by_tokens, 64)):
        made = epochs(make, amount)
        assert made == epochs(make, amount)
        for epoch in made:
            assert sorted(i for batch in epoch for i in batch) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in epochs(batches.epoch_by_count, size)[0])


def test_epochs_by_count_hold_items_of_like_length():
    lengths = [10] * 20 + [50] * 20
    generator = torch.Generator().manual_seed(0)
    for batch in batches.epoch_by_count(lengths, 4, generator):
        assert len({lengths[i] for i in batch}) == 1


def test_pad_marks_real_tokens():
    ids, mask = batches.pad([[7, 8, 9], [0]])
    assert ids.tolist() == [[7, 8, 9], [0, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]


def test_held_out_prompts_do_not_depend_on_order_or_on_repetition():
    ids = [f"p{i}" for i in range(40)]
    chosen = batches.held_out(ids, 0.1, seed=1)
    assert len(chosen) == 4
    assert chosen == batches.held_out([*reversed(ids), *ids], 0.1, seed=1)
    assert chosen != batches.held_out(ids, 0.1, seed=2)
    assert len(batches.held_out(ids, 0.0001, seed=1)) == 1


def test_cosine_rises_to_the_peak_and_falls_to_zero():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = batches.cosine(optimizer, steps=10, warmup=0.2)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:3] == pytest.approx([2 / 3, 4 / 3, 2.0])
    assert rates[6] == pytest.approx(1.0)  # halfway down: cos(pi / 2)
    assert rates[9] == pytest.approx(1 + math.cos(7 / 8 * math.pi))
    assert schedule.get_last_lr()[0] == pytest.approx(0.0)
