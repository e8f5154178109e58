"""The split by prompt: disjoint, of the size asked for, independent of the order of the files."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hps.data.records import Comparison
from hps.data.splits import SPLITS, SplitRequest, split
from hps.support.errors import InputError


def comparison(prompt, row=0, chosen="yes", rejected="no"):
    return Comparison([{"role": "user", "content": str(prompt)}], chosen, rejected, f"f:{row}")


def requests(**asked):
    """`test=("test", 3)` draws three from the part test; a split that is not named draws nothing."""
    return {name: SplitRequest(*asked.get(name, ("train", 0))) for name in SPLITS}


def ids(comparisons):
    return [each.prompt_id for each in comparisons]


PROMPTS = st.lists(st.integers(0, 25), min_size=1, max_size=60)
SEED = st.integers(0, 2**32)


@given(PROMPTS, PROMPTS, SEED, st.integers(0, 5), st.integers(0, 5))
def test_splits_are_disjoint_by_prompt_and_test_prompts_are_nowhere_else(train, test, seed, for_test, for_reward):
    parts = {"train": [comparison(p) for p in train], "test": [comparison(p) for p in test]}
    only_train = len(set(train) - set(test))
    asked = requests(
        test=("test", min(for_test, len(set(test)))),
        reward=("train", min(for_reward, only_train)),
        train=("train", None if only_train > for_reward else 0),
    )
    splits, _ = split(parts, asked, seed=seed)
    drawn = [prompt for name in SPLITS for prompt in ids(splits[name])]
    assert len(drawn) == len(set(drawn))
    assert (len(splits["test"]), len(splits["reward"])) == (asked["test"].prompts, asked["reward"].prompts)
    if asked["train"].prompts is None:
        assert set(ids(parts["train"])) <= set(drawn)


@given(PROMPTS, SEED, st.randoms(use_true_random=False))
def test_the_split_of_a_prompt_does_not_depend_on_the_order_of_the_file(prompts, seed, rng):
    shuffled = rng.sample(prompts, len(prompts))
    number = len(set(prompts))
    asked = requests(test=("train", number // 3), reward=("train", number // 3), train=("train", None))
    first, second = (
        split({"train": [comparison(p) for p in order]}, asked, seed=seed)[0] for order in (prompts, shuffled)
    )
    assert {name: ids(first[name]) for name in SPLITS} == {name: ids(second[name]) for name in SPLITS}


@given(PROMPTS, SEED)
def test_every_comparison_is_counted_once(prompts, seed):
    comparisons = [comparison("x" * p, chosen="y" * (p % 7)) for p in prompts]
    _, counts = split({"train": comparisons}, requests(), seed=seed, max_prompt_chars=18, max_response_chars=5)
    count = counts["train"]
    assert count["comparisons"] == len(prompts)
    assert len(prompts) == count["prompts"] + sum(n for key, n in count.items() if key.startswith("left out: "))


def test_a_larger_split_contains_the_smaller_one_in_order():
    parts = {"train": [comparison(p) for p in range(30)]}
    small, large = (ids(split(parts, requests(test=("train", n)), seed=1)[0]["test"]) for n in (5, 12))
    assert large[:5] == small


def test_the_seed_decides():
    parts = {"train": [comparison(p) for p in range(30)]}
    first, second = (ids(split(parts, requests(test=("train", 10)), seed=seed)[0]["test"]) for seed in (1, 2))
    assert set(first) != set(second)


def test_a_prompt_that_repeats_keeps_its_first_comparison():
    rows = [comparison("a", 1), comparison("b", 2), comparison("a", 3), comparison("a", 4)]
    splits, counts = split({"train": rows}, requests(train=("train", None)), seed=0)
    assert sorted(each.source for each in splits["train"]) == ["f:1", "f:2"]
    assert counts["train"] == {"comparisons": 4, "left out: prompt seen before": 2, "prompts": 2}


def test_long_prompts_and_replies_are_left_out_and_counted():
    rows = [comparison("four"), comparison("fives"), comparison("x", chosen="four"), comparison("y", rejected="fives")]
    splits, counts = split(
        {"train": rows}, requests(train=("train", None)), seed=0, max_prompt_chars=4, max_response_chars=4
    )
    assert sorted(each.messages[0]["content"] for each in splits["train"]) == ["four", "x"]
    assert counts["train"] == {
        "comparisons": 4,
        "left out: prompt too long": 1,
        "left out: reply too long": 1,
        "prompts": 2,
    }


def test_a_test_prompt_that_also_stands_in_the_training_part_is_not_trained_on():
    parts = {"train": [comparison(p) for p in "abc"], "test": [comparison(p) for p in "cd"]}
    splits, _ = split(parts, requests(test=("test", 2), train=("train", None)), seed=0)
    assert sorted(each.messages[0]["content"] for each in splits["train"]) == ["a", "b"]


def test_all_that_remain_go_to_the_later_split():
    parts = {"train": [comparison(p) for p in range(10)]}
    splits, _ = split(parts, requests(reward=("train", 3), train=("train", None)), seed=0)
    assert (len(splits["reward"]), len(splits["train"])) == (3, 7)


def test_train_from_fraction_takes_the_end_of_the_file_for_training_only():
    parts = {"train": [comparison(p) for p in range(10)]}
    splits, _ = split(parts, requests(train=("train", None)), seed=0, train_from_fraction=0.6)
    assert sorted(int(each.messages[0]["content"]) for each in splits["train"]) == [6, 7, 8, 9]
    splits, _ = split(parts, requests(sft=("train", None)), seed=0, train_from_fraction=0.6)
    assert len(splits["sft"]) == 10


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (
            {"test": ("train", 3), "train": ("train", 8)},
            r"splits\.train\.prompts \(--train-prompts\): asks for 8 .* 7 are left",
        ),
        (
            {"eval_reward": ("train", 11)},
            r"eval_reward\.prompts \(--eval-reward-prompts\): asks for 11 prompts of the train files",
        ),
        (
            {"sft": ("train", None), "train": ("train", None)},
            r"train\.prompts .* asks for all that remain .* 0 are left",
        ),
        ({"test": ("test", 1)}, r"test\.prompts .* asks for 1 prompts of the test files, where 0 are left"),
    ],
)
def test_too_few_prompts_are_an_error_naming_the_key_and_the_number_there_is(asked, what):
    with pytest.raises(InputError, match=what):
        split({"train": [comparison(p) for p in range(10)]}, requests(**asked), seed=0)


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(InputError, match="train_from_fraction"):
        split({"train": []}, requests(), seed=0, train_from_fraction=fraction)
