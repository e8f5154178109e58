"""Sequences of unlike length are cut into parts: each once, in order, within the budget."""

from hypothesis import given
from hypothesis import strategies as st

from hps.logprobs import packing

LENGTHS = st.lists(st.integers(1, 500), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 2000))
def test_parts_keep_the_order_and_the_budget_and_are_full(lengths, budget):
    parts = list(packing.fill(lengths, sum, budget))
    assert [length for part in parts for length in part] == lengths
    assert all(len(part) == 1 or sum(part) <= budget for part in parts)
    following = (part[0] for part in parts[1:])
    assert all(sum(part) + after > budget for part, after in zip(parts, following, strict=False))


def test_a_head_makes_no_more_logits_than_allowed_and_one_position_at_least():
    for device, entries in packing.HEAD_LOGITS.items():
        assert packing.head_rows(1000, device) == entries // 1000
        assert packing.head_rows(2 * entries, device) == 1


def test_places_are_those_of_the_rows():
    assert packing.places([1, 0], [2, 3], width=4) == [1, 2, 4, 5, 6]
