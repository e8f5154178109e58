"""Means over seeds and prompts: Student's t against printed tables, the analysis of variance by hand, and laws."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hps.evidence.statistics import Estimate, estimate, holm, paired_difference, ratio_interval, t_quantile

SAMPLES = st.lists(st.integers(-100, 100).map(float), min_size=2, max_size=12)
PRINTED = {
    # Abramowitz and Stegun (1972), table 26.10, two-sided 0.1, 0.05, 0.01 and 0.001
    1: (6.314, 12.706, 63.657, 636.619),
    2: (2.920, 4.303, 9.925, 31.598),
    3: (2.353, 3.182, 5.841, 12.924),
    4: (2.132, 2.776, 4.604, 8.610),
    9: (1.833, 2.262, 3.250, 4.781),
    29: (1.699, 2.045, 2.756, 3.659),
    120: (1.658, 1.980, 2.617, 3.373),
    1_000_000: (1.645, 1.960, 2.576, 3.291),
}


@pytest.mark.parametrize("df", PRINTED)
def test_quantiles_of_t_are_those_of_printed_tables(df):
    for two_sided, printed in zip((0.1, 0.05, 0.01, 0.001), PRINTED[df], strict=True):
        # To the printed digits; their 31.598 is 31.5991 in later tables.
        assert t_quantile(two_sided / 2, df) == pytest.approx(printed, rel=5e-5, abs=6e-4)


def test_t_has_closed_forms_at_one_and_two_degrees_of_freedom():
    for tail in (0.4, 0.1, 0.0123, 1e-4, 1e-6):
        a = 1 - 2 * tail
        assert t_quantile(tail, 1) == pytest.approx(1 / math.tan(math.pi * tail), rel=1e-4)
        assert t_quantile(tail, 2) == pytest.approx(a * math.sqrt(2 / (1 - a * a)), rel=1e-4)
    assert t_quantile(0.025, 200) == pytest.approx(t_quantile(0.025, 201), abs=1e-4)  # where the series takes over


def test_one_seed_is_the_t_of_its_prompts():
    found = estimate(np.array([1.0, 2.0, 4.0, 5.0]))
    error = math.sqrt((4 + 1 + 1 + 4) / 3 / 4)  # sd over sqrt(4)
    assert found[:5] == pytest.approx((3, 3 - 3.18245 * error, 3 + 3.18245 * error, 4, 1), rel=1e-4)
    # t = 3 / 0.9129 = 3.286 with 3 degrees of freedom
    assert found.p_above(0) == pytest.approx(max(0.02313, 0.5**4), rel=1e-3)
    assert found.p_below(0) == pytest.approx(1 - 0.02313, rel=1e-3)
    assert found.p_above(3) == 0.5


def test_two_seeds_by_hand():
    values = np.array([[1.0, 2.0, 6.0], [3.0, 6.0, 6.0]])
    # Means of seeds 3, 5 and of prompts 2, 4, 6; grand mean 4. MS_seeds = 3 (1 + 1) / 1 = 6,
    # MS_prompts = 2 (4 + 0 + 4) / 2 = 8; the rest is ((0, -1, 1), (0, 1, -1)), so MS_rest = 4 / 2 = 2.
    found = estimate(values)
    assert (found.mean, found.prompts, found.seeds) == (4, 3, 2)
    assert (found.seed_variance, found.prompt_variance) == pytest.approx((1, 1))
    half = (12.7062 * 1 + 4.30265 * 1) / math.sqrt(2)
    assert (found.lo, found.hi) == pytest.approx((4 - half, 4 + half), rel=1e-4)
    tail = 0.3
    width = math.sqrt(t_quantile(tail, 1) ** 2 + t_quantile(tail, 2) ** 2)
    assert found._replace(prompts=3).p_above(4 - width) == pytest.approx(tail, rel=1e-3)


def test_missing_values_are_left_out_with_their_prompt():
    found = estimate(np.array([[1.0, math.nan, 3.0, 8.0], [2.0, 2.0, 3.0, 9.0]]))
    assert found == estimate(np.array([[1.0, 3.0, 8.0], [2.0, 3.0, 9.0]]))
    assert found.prompts == 3
    nothing = estimate(np.full((2, 4), math.nan))
    assert nothing.prompts == 0
    assert all(map(math.isnan, nothing[:3]))
    assert math.isnan(nothing.p_above(0))


def test_one_value_has_a_mean_and_no_interval():
    found = estimate(np.array([2.5]))
    assert (found.mean, found.prompts) == (2.5, 1)
    assert all(map(math.isnan, (found.lo, found.hi, found.p_above(0), found.smallest_effect(0.025))))


@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_values_are_both_ends_exactly_and_few_of_them_decide_nothing(seeds):
    found = estimate(np.full((seeds, 7), 0.1))
    assert found[:4] == (0.1, 0.1, 0.1, 7)
    assert (found.p_above(0), found.p_below(0.2)) == (0.5**7, 0.5**7)
    assert found.p_below(0) == 1


@given(SAMPLES, st.floats(0.1, 10), st.integers(-50, 50))
@settings(max_examples=30, deadline=None)
def test_interval_moves_and_scales_with_the_values(values, scale, shift):
    table = np.array([values, values[::-1]])
    plain, moved = estimate(table), estimate(scale * table + shift)
    assert moved[:3] == pytest.approx([scale * part + shift for part in plain[:3]], abs=1e-6)


@given(SAMPLES, st.integers(1, 4), st.integers(-60, 60))
@settings(max_examples=50, deadline=None)
def test_a_test_that_rejects_has_an_interval_that_agrees(values, seeds, threshold):
    table = np.array([np.roll(values, seed) * (1 + seed) for seed in range(seeds)])
    found = estimate(table)
    if found.p_above(threshold) < 0.0249:
        assert found.lo > threshold
    if found.p_below(threshold) < 0.0249:
        assert found.hi < threshold


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_the_smallest_effect_is_found_with_its_power(seeds):
    """True differences of that size, with the variances that the estimate was told, are found four times in five."""
    generator = np.random.default_rng(seeds)
    # The variances of standard deviations 0.3 (seeds, if there are several), 1 (prompts) and 1 (the rest).
    by_seed, by_prompt = (0.09 + 1 / 400) / seeds if seeds > 1 else 0.0, 1 / 400 + (seeds == 1) / 400
    effect = Estimate(0, 0, 0, 400, seeds, by_seed, by_prompt).smallest_effect(0.025)
    seed_part = generator.normal(size=(400, seeds, 1)) * 0.3 * (seeds > 1)
    draws = effect + seed_part + generator.normal(size=(400, 1, 400)) + generator.normal(size=(400, seeds, 400))
    power = np.mean([estimate(one).p_above(0) <= 0.025 for one in draws])
    assert power == pytest.approx(0.8, abs=0.06)


def test_skewed_values_widen_the_interval_by_the_term_of_edgeworth():
    values = np.array([0.0, 0.0, 0.0, 0.0, 5.0])  # mean 1; second central moment 4, third (4 * -1 + 64) / 5 = 12
    found = estimate(values)
    assert found.skewness == pytest.approx(12 / 4**1.5)
    z = 1.959964
    factor = 1 + 1.5**2 * (z**4 + 2 * z**2 - 3) / (18 * 5)
    assert found.hi - found.mean == pytest.approx(2.77645 * factor * 1, rel=1e-4)  # standard error sqrt(20 / 4 / 5)


def test_what_an_interval_lacks():
    seeds, prompts = np.array([[0.0], [1.0], [2.0]]), np.linspace(-1, 1, 50)
    assert estimate(10 * seeds + prompts).more_from_seeds
    assert not estimate(0.01 * seeds + 10 * prompts).more_from_seeds


def test_pairing_cancels_what_the_prompts_share():
    prompts = np.arange(50.0)
    better = prompts + np.tile([0.0, 2.0], 25)
    difference = paired_difference(better, prompts)
    assert difference.mean == 1
    assert 0.5 < difference.lo < 1 < difference.hi < 1.5  # unpaired, the prompts' spread would span several units
    missing = paired_difference(np.array([5.0, 1.0, math.nan]), np.array([1.0, math.nan, 1.0]))
    assert (missing.mean, missing.prompts) == (4.0, 1)


def test_paired_values_must_be_as_many():
    with pytest.raises(ValueError, match="shapes"):
        paired_difference(np.zeros(3), np.zeros(2))


def test_the_interval_of_a_ratio_is_fiellers():
    # Pairs that lie symmetrically about their mean, so that no sum of them is skewed.
    first, second = 3 + np.array([1.0, -1.0, 0.5, -0.5]), 5 + np.array([2.0, -2.0, -0.3, 0.3])
    ratio, lo, hi = ratio_interval(first, second)
    t2 = 3.182446**2 / 4
    (va, cab), (_, vb) = np.cov(first, second)
    a, b = first.mean(), second.mean()
    roots = np.roots([b * b - t2 * vb, -2 * (a * b - t2 * cab), a * a - t2 * va])
    assert ratio == pytest.approx(a / b)
    assert (lo, hi) == pytest.approx((min(roots), max(roots)), rel=1e-4)


def test_holm_by_hand():
    def alone(*p_values):
        return [own["a"] for own in holm([{"a": p} for p in p_values])]

    assert alone(0.01, 0.04, 0.03) == pytest.approx([0.03, 0.06, 0.06])  # 3 * 0.01; 2 * 0.03; 0.04 stays below it
    assert alone(0.5, 0.001) == pytest.approx([0.5, 0.002])
    assert alone(0.6, 0.7) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_counts_what_can_still_be_wrong_by_hand():
    # 2 + 2 of five; the first found, still 2 + 2; two of three found, 1 + 2.
    found = holm([{"a": 0.001, "b": 0.002, "c": 0.3}, {"a": 0.01, "b": 0.9}, {}], together=2)
    assert found[0] == pytest.approx({"a": 0.004, "b": 0.008, "c": 0.6})
    assert found[1:] == [pytest.approx({"a": 0.03, "b": 0.9}), {}]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(p_values):
    adjusted = [own["a"] for own in holm([{"a": p} for p in p_values])]
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))


@pytest.mark.parametrize("truth", [0.0, 1.0])
def test_families_of_claims_err_no_more_often_than_they_may(truth):
    """20 claims: half with precise numbers and an effect of 0 or of just the bound, half with hardly any information.

    A claim that is found to have no difference, or a sign, must not make it easier to find the other of the two.
    """
    generator, sd = np.random.default_rng(0), np.repeat([0.05, 50.0], 10)
    tail, wrong = NormalDist().cdf, 0
    for _ in range(400):
        z = [(mean, s) for mean, s in zip(truth + sd * generator.standard_normal(20), sd, strict=True)]
        claims = [
            {"above": tail(-m / s), "below": tail(m / s), "within": max(tail((m - 1) / s), tail((-1 - m) / s))}
            for m, s in z
        ]
        false = ("below", "within") if truth else ("above", "below")
        wrong += any(own[name] <= 0.05 for own in holm(claims, together=2) for name in false)
    assert wrong / 400 < 0.05 + 2 * (0.05 * 0.95 / 400) ** 0.5
