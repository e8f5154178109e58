"""Bootstrap intervals: hand-worked and degenerate cases, laws, and how often they cover the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hps.evidence.statistics import mean_interval, mean_intervals, over_seeds, paired_difference

SETTINGS = {"resamples": 500, "seed": 0}
SAMPLES = st.lists(st.integers(-100, 100).map(float), min_size=2, max_size=12)


def test_two_values_span_the_interval():
    # The resampled means of (0, 1) are 0, 1/2, 1 with chances 1/4, 1/2, 1/4: the outer 2.5 % are 0 and 1.
    assert mean_interval(np.array([0.0, 1.0]), **SETTINGS) == (0.5, 0.0, 1.0, 2)


def test_interval_of_many_values_is_near_the_normal_one():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    estimate = mean_interval(values, resamples=4000, seed=0)
    half = 1.96 * values.std() / 20
    assert estimate.mean == pytest.approx(values.mean())
    assert estimate.lo == pytest.approx(values.mean() - half, abs=0.02)
    assert estimate.hi == pytest.approx(values.mean() + half, abs=0.02)


def test_intervals_cover_the_true_mean_about_as_often_as_they_say():
    samples = np.random.default_rng(2).normal(1, 1, size=(400, 40))
    covered = np.mean([estimate.lo <= 1 <= estimate.hi for estimate in mean_intervals(samples, **SETTINGS)])
    assert 0.90 <= covered <= 0.98


def test_missing_values_are_left_out_row_by_row():
    values = np.array([[1.0, math.nan, 3.0, 8.0], [1.0, 2.0, 3.0, 8.0], [math.nan] * 4])
    some, every, none = mean_intervals(values, **SETTINGS)
    assert some == mean_interval(np.array([1.0, 3.0, 8.0]), **SETTINGS)
    assert every == mean_interval(values[1], **SETTINGS)
    assert (some.prompts, every.prompts, none.prompts) == (3, 4, 0)
    assert all(map(math.isnan, none[:3]))


def test_one_value_has_a_mean_and_no_interval():
    estimate = mean_interval(np.array([2.5]), **SETTINGS)
    assert (estimate.mean, estimate.prompts) == (2.5, 1)
    assert math.isnan(estimate.lo)
    assert math.isnan(estimate.hi)


def test_equal_values_are_both_ends_exactly():
    assert mean_interval(np.full(7, 0.1), **SETTINGS) == (0.1, 0.1, 0.1, 7)


def test_no_values_at_all():
    estimate = mean_interval(np.array([]), **SETTINGS)
    assert math.isnan(estimate.mean)
    assert estimate.prompts == 0


@given(SAMPLES)
@settings(max_examples=30, deadline=None)
def test_interval_lies_within_the_values_and_is_repeatable(values):
    estimate = mean_interval(np.array(values), **SETTINGS)
    assert min(values) <= estimate.lo <= estimate.hi <= max(values)
    assert estimate == mean_interval(np.array(values), **SETTINGS)


@given(SAMPLES, st.floats(0.1, 10), st.integers(-50, 50))
@settings(max_examples=30, deadline=None)
def test_interval_moves_and_scales_with_the_values(values, scale, shift):
    plain = mean_interval(np.array(values), **SETTINGS)
    moved = mean_interval(scale * np.array(values) + shift, **SETTINGS)
    assert moved[:3] == pytest.approx([scale * part + shift for part in plain[:3]], abs=1e-9)


def test_seeds_are_averaged_per_prompt():
    average = over_seeds([np.array([1.0, 2.0, math.nan]), np.array([3.0, 6.0, 5.0])])
    assert average == pytest.approx([2.0, 4.0, math.nan], nan_ok=True)


def test_pairing_cancels_what_the_prompts_share():
    prompts = np.arange(50.0)
    better = prompts + np.tile([0.0, 2.0], 25)
    difference = paired_difference(better, prompts, **SETTINGS)
    assert difference.mean == 1
    assert 0.5 < difference.lo < 1 < difference.hi < 1.5  # unpaired, the prompts' spread would span several units


def test_pairs_that_lack_a_value_are_left_out():
    difference = paired_difference(np.array([5.0, 1.0, math.nan]), np.array([1.0, math.nan, 1.0]), **SETTINGS)
    assert (difference.mean, difference.prompts) == (4.0, 1)


def test_paired_values_must_be_as_many():
    with pytest.raises(ValueError, match="shapes"):
        paired_difference(np.zeros(3), np.zeros(2), **SETTINGS)
