"""The schedule of gamma, the law of the negatives (Eq. 9) and their draws."""

from collections import Counter
from math import inf, log, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hps.method.sampling import draw_negative, gamma_at, hardness, negative_near, negative_probabilities

PAPER = [-5, -2.5, 0, 2.5, 5]
few = settings(max_examples=50, deadline=None, derandomize=True)
rewards_of_a_prompt = st.lists(st.integers(-20, 20).map(float), min_size=2, max_size=8).filter(
    lambda r: min(r) < max(r)
)
gammas = st.one_of(st.floats(-10, 10), st.sampled_from([-inf, -1e6, 0.0, 1e6, inf]))


def draw(rewards, gamma, seed=0, epoch=0, prompt_id="p", **given):
    return draw_negative(rewards, gamma, seed=seed, epoch=epoch, prompt_id=prompt_id, **given)


class TestGammaAt:
    @pytest.mark.parametrize(
        ("progress", "gamma"), [(0, -5), (0.1999, -5), (0.2, -2.5), (0.5, 0), (0.6, 2.5), (0.8, 5), (0.999999, 5)]
    )
    def test_five_levels_share_training_in_fifths(self, progress, gamma):
        assert gamma_at(progress, PAPER) == gamma

    @pytest.mark.parametrize("levels", [1, 2, 3, 7, 49, 100])
    def test_any_number_of_levels_gets_equal_steps(self, levels):
        steps = [gamma_at(step / (3 * levels), range(levels)) for step in range(3 * levels)]
        assert steps == [step // 3 for step in range(3 * levels)]

    @pytest.mark.parametrize("progress", [-0.01, 1.0, nan])
    def test_refuses_other_progress(self, progress):
        with pytest.raises(ValueError, match="progress is"):
            gamma_at(progress, PAPER)

    def test_refuses_no_levels(self):
        with pytest.raises(ValueError, match="no levels"):
            gamma_at(0.5, [])


class TestNegativeProbabilities:
    def test_is_exponential_in_the_reward_of_the_dispreferred(self):
        # the best and what ties with it get nothing; gamma = ln 3 triples the odds with each unit of reward
        assert negative_probabilities([1, 4, 2, 4], log(3)) == pytest.approx([1 / 4, 0, 3 / 4, 0])
        assert negative_probabilities([1, 4, 2, 4], -log(3)) == pytest.approx([3 / 4, 0, 1 / 4, 0])

    def test_masked_responses_are_neither_best_nor_negative(self):
        mask = [True, True, False, True, False]
        assert negative_probabilities([1, 2, 9, 3, nan], 0, mask) == pytest.approx([0.5, 0.5, 0, 0, 0])

    @pytest.mark.parametrize(("gamma", "expected"), [(inf, [0, 0.5, 0.5, 0]), (-inf, [0, 0, 0, 1])])
    def test_infinite_gamma_shares_among_the_hardest_or_easiest(self, gamma, expected):
        assert negative_probabilities([9, 5, 5, 1], gamma).tolist() == expected
        assert negative_probabilities([9, 5, 5, 1], np.sign(gamma) * 1e6).tolist() == expected

    @pytest.mark.filterwarnings("error")
    @few
    @given(rewards=rewards_of_a_prompt, gamma=gammas, scale=st.sampled_from([1e-6, 1.0, 1e6]))
    def test_is_a_distribution_over_the_dispreferred(self, rewards, gamma, scale):
        r = np.array(rewards) * scale
        q = negative_probabilities(r, gamma)
        assert q.sum() == pytest.approx(1)
        assert (q >= 0).all()
        assert (q[r == r.max()] == 0).all()

    @few
    @given(rewards=rewards_of_a_prompt, gamma=st.floats(-10, 10), shift=st.floats(-100, 100))
    def test_does_not_depend_on_the_level_of_rewards(self, rewards, gamma, shift):
        q = negative_probabilities(rewards, gamma)
        assert negative_probabilities(np.array(rewards) + shift, gamma) == pytest.approx(q, abs=1e-9)

    @pytest.mark.parametrize(
        ("rewards", "given", "message"),
        [
            ([2, 2, 2], {}, "nothing is dispreferred"),
            ([1], {}, "nothing is dispreferred"),
            ([1, 2], {"mask": [False, True]}, "nothing is dispreferred"),
            ([1, nan, 2], {}, "response 1 is not finite"),
            ([1, 2, inf], {}, "response 2 is not finite"),
            ([1, 2], {"mask": [False, False]}, "every response is masked"),
            ([], {}, "every response is masked"),
            ([[1, 2]], {}, "shape"),
            ([1, 2], {"mask": [1, 1]}, "mask has shape .* int64"),
            ([1, 2], {"mask": [True]}, r"mask has shape \(1,\)"),
            ([1, 2], {"gamma": nan}, "gamma is NaN"),
        ],
    )
    def test_refuses(self, rewards, given, message):
        with pytest.raises(ValueError, match=message):
            negative_probabilities(rewards, **({"gamma": 1.0} | given))


class TestDrawNegative:
    @pytest.mark.parametrize("gamma", [-1.0, 0.0, 1.5])
    def test_frequencies_follow_q(self, gamma):
        """Within five standard deviations of the binomial law, over 4000 prompts."""
        rewards, draws = [0.3, 2.0, 1.0, -0.5, 2.0, 1.0], 4000
        q = negative_probabilities(rewards, gamma)
        counts = Counter(draw(rewards, gamma, prompt_id=f"prompt-{i}") for i in range(draws))
        share = np.array([counts[k] for k in range(len(rewards))]) / draws
        assert (np.abs(share - q) <= 5 * np.sqrt(q * (1 - q) / draws)).all()

    def test_epochs_and_seeds_are_independent_streams(self):
        """Two uniform draws among four agree a quarter of the time."""
        rewards, prompts = [4, 3, 2, 1, 0], [f"prompt-{i}" for i in range(2000)]
        first = [draw(rewards, 0, prompt_id=prompt) for prompt in prompts]
        for other in ({"epoch": 1}, {"seed": 1}):
            agreement = np.mean(
                [a == draw(rewards, 0, prompt_id=p, **other) for a, p in zip(first, prompts, strict=True)]
            )
            assert agreement == pytest.approx(0.25, abs=0.05)

    def test_depends_on_nothing_else(self):
        rewards, prompts = [4, 3, 2, 1, 0], [f"prompt-{i}" for i in range(50)]
        forwards = {prompt: draw(rewards, 0.3, prompt_id=prompt) for prompt in prompts}
        np.random.seed(1)
        assert {prompt: draw(rewards, 0.3, prompt_id=prompt) for prompt in reversed(prompts)} == forwards

    def test_is_the_same_on_every_machine(self):
        assert [draw([4, 3, 2, 1, 0], 0, prompt_id=f"prompt-{i}") for i in range(8)] == [3, 1, 1, 4, 1, 1, 3, 2]

    @few
    @given(rewards=rewards_of_a_prompt, prompt=st.integers(0, 10**6))
    def test_limits_are_the_hardest_and_the_easiest(self, rewards, prompt):
        below = [r for r in rewards if r < max(rewards)]
        for gamma in (inf, 1e6):
            assert rewards[draw(rewards, gamma, prompt_id=prompt)] == max(below)
            assert rewards[draw(rewards, -gamma, prompt_id=prompt)] == min(below)

    @few
    @given(rewards=rewards_of_a_prompt, levels=st.lists(gammas, min_size=2, max_size=5), prompt=st.integers(0, 10**6))
    def test_a_larger_gamma_never_draws_an_easier_one(self, rewards, levels, prompt):
        drawn = [rewards[draw(rewards, gamma, prompt_id=prompt)] for gamma in sorted(levels)]
        assert drawn == sorted(drawn)

    @few
    @given(
        data=st.lists(st.integers(-20, 20), min_size=2, max_size=8, unique=True).flatmap(
            lambda r: st.tuples(st.just(r), st.permutations(r))
        ),
        gamma=gammas,
    )
    def test_the_order_of_listing_does_not_matter(self, data, gamma):
        rewards, shuffled = data
        assert rewards[draw(rewards, gamma)] == shuffled[draw(shuffled, gamma)]

    @few
    @given(rewards=rewards_of_a_prompt, gamma=gammas)
    def test_padding_does_not_matter(self, rewards, gamma):
        mask = [True] * len(rewards) + [False, False]
        assert draw([*rewards, nan, 1e9], gamma, mask=mask) == draw(rewards, gamma)


class TestNegativeNear:
    def test_by_hand(self):
        rewards = [1, *[0] * 15, -2, -6]  # mean -7/18; sum of squares 41: deviation 1.458; mean - 2 deviations: -3.31
        assert negative_near(rewards) == 16
        assert negative_near([*rewards, nan], mask=[True] * 18 + [False]) == 16
        assert negative_near(rewards, deviations=-3) == 17  # -4.76
        assert negative_near([0, 0, 5, 1], deviations=-1) == 0  # of equal rewards the first

    def test_of_equally_near_ones_it_is_the_lower(self):
        assert negative_near([-1, 2, 1, -2], deviations=0) == 0  # the mean is 0: both -1 and 1 are 1 away

    def test_the_best_is_never_taken(self):
        assert negative_near([3, 0], deviations=2) == 1


class TestHardness:
    def test_runs_from_the_easiest_to_the_hardest(self):
        rewards = [2, 0, 5, 1, 3, 5]
        assert [hardness(rewards, i) for i in (1, 3, 0, 4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])

    def test_ties_share_their_mean_rank(self):
        rewards = [9, 3, 3, 1]
        assert [hardness(rewards, i) for i in (1, 2, 3)] == [0.75, 0.75, 0]

    def test_a_single_negative_is_neither_hard_nor_easy(self):
        assert hardness([1, 2], 0) == 0.5

    def test_padding_does_not_count(self):
        assert hardness([9, 3, 2, 1, nan], 2, [True, True, True, True, False]) == 0.5

    @few
    @given(rewards=rewards_of_a_prompt)
    def test_a_uniform_draw_has_mean_one_half(self, rewards):
        q = negative_probabilities(rewards, 0)
        assert sum(q[i] * hardness(rewards, i) for i in np.flatnonzero(q)) == pytest.approx(0.5)

    @pytest.mark.parametrize("index", [0, 2, 4, -3])
    def test_refuses_what_is_not_dispreferred(self, index):
        with pytest.raises(ValueError, match=f"response {index} is not dispreferred"):
            hardness([5, 1, 5, 0], index)
