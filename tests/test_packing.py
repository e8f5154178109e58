"""Sequences of unlike length share passes: each once, within the budget, with as little padding as it pays."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hps import packing

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("pass_tokens", "passes", "tokens"),
    [
        (0, [[1, 3], [2], [0]], 2 * 4 + 5 + 100),
        (10, [[1, 2, 3], [0]], 3 * 5 + 100),  # a pass for the one of 5 alone would save 2 tokens
        (300, [[0, 1, 2, 3]], 4 * 100),  # even the long one alone would save 3 * (100 - 5) = 285
    ],
)
def test_a_pass_is_split_where_it_pays(pass_tokens, passes, tokens):
    lengths = [100, 4, 5, 4]
    assert packing.alike(lengths, pass_tokens) == passes
    assert packing.padded_tokens(lengths, pass_tokens) == tokens


@given(LENGTHS, st.integers(0, 200))
def test_every_sequence_is_in_one_pass_and_splitting_pays(lengths, pass_tokens):
    passes = packing.alike(lengths, pass_tokens)
    assert sorted(i for one in passes for i in one) == list(range(len(lengths)))
    assert all(one == sorted(one) for one in passes)
    tokens = packing.padded_tokens(lengths, pass_tokens)
    assert sum(lengths) <= tokens
    assert tokens + pass_tokens * (len(passes) - 1) <= max(lengths) * len(lengths)


@given(LENGTHS)
def test_a_pass_that_costs_nothing_leaves_no_padding_and_a_dear_one_is_never_split(lengths):
    assert packing.padded_tokens(lengths, 0) == sum(lengths)
    assert packing.alike(lengths, math.inf) == [list(range(len(lengths)))]


@given(LENGTHS, st.integers(1, 2000), st.integers(0, 20))
def test_batches_keep_the_order_and_the_budget(lengths, budget, extra):
    batches = list(packing.cut(list(enumerate(lengths)), budget, extra))
    assert [i for batch in batches for i in batch] == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or (max(lengths[i] for i in batch) + extra) * len(batch) <= budget


def test_places_are_those_of_the_rows():
    assert packing.places([1, 0], [2, 3], width=4) == [1, 2, 4, 5, 6]
