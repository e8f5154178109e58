"""Verdicts on claims: on the paper's own numbers by hand, and the logic behind them as laws."""

import csv
import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from claim_evidence import CLAIMS, PAPER, SCHEMA, SETTINGS, TEST, Numbers, claim, spread, verdict
from hypothesis import given
from hypothesis import strategies as st

from hps.evidence import render
from hps.evidence.claims import page
from hps.evidence.claims.evidence import CsvTables, OurResults
from hps.evidence.claims.verdicts import Level, evaluate, judge, judge_as_printed
from hps.evidence.claims.vocabulary import Claim, read_claims

# --- the paper's own numbers


def own_numbers() -> dict:
    theirs = CsvTables.of_the_paper(PAPER)
    return {c.id: judge_as_printed(evaluate(c, theirs, TEST)) for c in read_claims(CLAIMS, SCHEMA)}


def test_the_papers_own_numbers_contradict_what_the_audit_found():
    results = own_numbers()
    contradicted = {name for name, result in results.items() if result.verdict == "contradicted"}
    assert contradicted == {
        "rm_dpo_over_pl",  # EXO on PKU-SafeRLHF
        "transfer_rm_dpo_over_bt",  # NCA on HH-RLHF
        "transfer_rm_rdpo_over_bt",
        "kl_falls_with_beta",  # DPO-BT from 0.5 to 0.75
        "rm_dpo_over_bt_at_each_beta",  # beta = 1
    }
    without = {"theory", "beyond the paper"}
    assert all((result.verdict == "open") == (result.claim.group in without) for result in results.values())
    assert results["rm_dpo_over_pl"].decisive.comparison.label == "pku_saferlhf, exo"
    assert results["rm_dpo_over_pl"].decisive.mean == pytest.approx(-0.040)
    assert results["kl_falls_with_beta"].decisive.comparison.label == "dpo-bt, β = 0.5 to 0.75"
    assert results["time_near_bt"].decisive.mean == pytest.approx(64.4 / 62.8)


def test_a_tolerance_that_is_just_met_holds():
    result = own_numbers()["bleu_near_bt"]  # 0.314 against 0.324
    assert (result.verdict, result.holding) == ("supported", 10)


def test_every_claim_is_open_without_numbers():
    nothing = OurResults.of([], [], SETTINGS, CsvTables({}, {}))
    results = judge([evaluate(c, nothing, TEST) for c in read_claims(CLAIMS, SCHEMA)], TEST)
    assert {result.verdict for result in results} == {"open"}
    assert all(math.isnan(result.p_holm) and result.reason for result in results)


# --- verdicts


def test_clear_differences_decide_and_swapping_flips():
    numbers = Numbers(a=spread(1.0, 0.5), b=spread(0.0, 0.5, seed=1))
    assert verdict(claim(first="a", second="b"), numbers) == "supported"
    assert verdict(claim(first="b", second="a"), numbers) == "contradicted"


@given(shift=st.floats(-3, 3), sd=st.floats(0.01, 3), units=st.integers(2, 40), seed=st.integers(0, 99))
def test_swapping_the_methods_flips_the_verdict(shift, sd, units, seed):
    numbers = Numbers(a=spread(shift, sd, units, seed), b=spread(0, sd, units, seed + 100))
    found, flipped = verdict(claim(smallest=0.5), numbers), {"supported": "contradicted", "contradicted": "supported"}
    assert verdict(claim(first="b", second="a", smallest=0.5), numbers) == flipped.get(found, found)


def test_wide_intervals_are_open():
    assert verdict(claim(), Numbers(a=spread(0.1, 5), b=spread(0, 5, seed=1))) == "open"


@given(st.integers(1, 4))
def test_a_handful_of_units_never_decides(units):
    numbers = Numbers(a=[5.0] * units, b=[0.0] * units)
    assert verdict(claim(first="a", second="b"), numbers) == "open"
    assert verdict(claim(first="b", second="a"), numbers) == "open"


def test_equal_methods_are_open_and_neither_holds():
    numbers = Numbers(a=spread(0, 1), b=spread(0, 1))
    (result,) = judge([evaluate(claim(), numbers, TEST)], TEST)
    assert (result.verdict, result.holding) == ("open", 0)


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_claim_with_a_missing_comparison_is_never_supported(missing):
    each = {"other": ["b", "c"]}
    numbers = Numbers(a=spread(1, 0.1), b=spread(0, 0.1, seed=1))
    (result,) = judge([evaluate(claim(second="$other", each=each), numbers, TEST)], TEST)
    assert (result.verdict, result.missing) == ("open", 1)
    assert "without enough numbers" in result.reason


def test_a_missing_comparison_does_not_hide_a_contradiction():
    numbers = Numbers(a=spread(0, 0.1), b=spread(1, 0.1, seed=1))
    assert verdict(claim(second="$other", each={"other": ["b", "c"]}), numbers) == "contradicted"


def test_one_failing_comparison_contradicts_and_an_undecided_one_leaves_open():
    of = claim(second="$other", each={"other": ["b", "c"]})
    base = {"a": spread(0, 0.2), "b": spread(-1, 0.2, seed=1)}
    assert verdict(of, Numbers(**base, c=spread(-1, 0.2, seed=2))) == "supported"
    assert verdict(of, Numbers(**base, c=spread(1, 0.2, seed=2))) == "contradicted"
    assert verdict(of, Numbers(**base, c=spread(0.01, 0.2, seed=2))) == "open"


def test_more_claims_make_it_harder():
    units = spread(0.48, 1.0, units=40)  # p about 0.01
    numbers = Numbers(a=units, b=np.zeros(40))
    assert verdict(claim(), numbers) == "supported"
    noise = Numbers(a=spread(0.0, 1.0, 40, 3), b=np.zeros(40))
    results = [evaluate(claim(), numbers, TEST)]
    results += [evaluate(claim(id=f"other{i}"), noise, TEST) for i in range(40)]
    assert judge(results, TEST)[0].verdict == "open"


@given(shift=st.floats(-1, 1), scale=st.floats(0.01, 1))
def test_within_asks_for_an_interval_inside_the_tolerance(shift, scale):
    numbers = Numbers(a=spread(shift, scale, 40), b=np.zeros(40))
    found = verdict(claim("within", tolerance=0.5), numbers)
    if found == "supported":
        assert abs(shift) < 0.5
    elif found == "contradicted":
        assert abs(shift) > 0.5
    elif scale < 0.05:
        assert 0.4 < abs(shift) < 0.6


def test_a_tolerance_is_fixed_and_follows_the_scale_of_the_reward_not_its_spread():
    def found(test, spread_of_prompts):
        base = spread(0, spread_of_prompts, 40)
        numbers = Numbers(a=base + 0.1 + spread(0, 0.01, 40, 2), b=base)
        return verdict(claim("within", tolerance=0.01, tolerance_log_odds=0.2), numbers, test)

    log_odds = Level(reward_in_log_odds=True)
    assert [found(TEST, sd) for sd in (0.1, 10)] == ["contradicted"] * 2
    assert [found(log_odds, sd) for sd in (0.1, 10)] == ["supported"] * 2


@pytest.mark.parametrize(
    ("mean", "sd", "found", "reason"),
    [
        (0.0, 0.1, "no difference", "within 0.5"),
        (0.01, 0.1, "no difference", "within 0.5"),
        (0.3, 0.1, "no difference", "above 0, but within 0.5"),
        (-0.3, 0.1, "no difference", "below 0, but within 0.5"),
        (0.0, 5.0, "open", "holds in 0 of 1, not decided"),
        (0.49, 0.1, "supported", "holds in 1 of 1"),
        (-0.49, 0.1, "contradicted", "holds in 0 of 1"),
        (2.0, 0.1, "supported", "holds in 1 of 1"),
    ],
)
def test_no_difference_is_an_interval_within_the_smallest_effect_on_either_side_of_0(mean, sd, found, reason):
    (result,) = judge([evaluate(claim(smallest=0.5), Numbers(a=spread(mean, sd), b=np.zeros(30)), TEST)], TEST)
    assert (result.verdict, result.reason) == (found, reason)


def test_no_difference_needs_every_comparison():
    of = claim(second="$other", each={"other": ["b", "c"]}, smallest=0.5)
    base = {"a": spread(0, 0.1), "b": spread(0, 0.1, seed=1)}
    assert verdict(of, Numbers(**base, c=spread(0.02, 0.1, seed=2))) == "no difference"
    assert verdict(of, Numbers(**base, c=spread(0, 5, seed=2))) == "open"
    assert verdict(of, Numbers(**base, c=spread(-2, 0.1, seed=2))) == "open"  # above 0 in one, and by more than 0.5
    assert verdict(of, Numbers(**base)) == "open"  # one is missing


@pytest.mark.parametrize(
    ("direction", "means", "reason", "decisive"),
    [
        ("rising", (0, 0.1, 0.4), "above 0 in all 2, but within 0.5", "m1 to m2"),
        ("falling", (0, -0.1, -0.4), "below 0 in all 2, but within 0.5", "m1 to m2"),
        ("rising", (0, 0.1, -0.2), "below 0 in at least one, but within 0.5 in all 2", "m1 to m2"),
    ],
)
def test_no_difference_says_which_way_and_shows_the_largest_effect(direction, means, reason, decisive):
    rows = {f"m{i}": spread(mean, 0.1, seed=0) + spread(0, 0.01, seed=i) for i, mean in enumerate(means)}
    details = {"metric": "m", "of": {}, "along": "method", "direction": direction}
    of = Claim("it", "", "", "t", "monotone", details, smallest=0.5)
    (result,) = judge([evaluate(of, Numbers(**rows), TEST)], TEST)
    assert (result.verdict, result.reason) == ("no difference", reason)
    assert decisive in result.decisive.comparison.label


def test_a_ratio_is_of_means_and_paired():
    b = spread(10, 1)
    (result,) = judge([evaluate(claim("ratio_at_most", limit=1.05), Numbers(a=1.02 * b, b=b), TEST)], TEST)
    assert result.verdict == "supported"
    assert result.decisive.mean == pytest.approx(1.02)
    assert (result.decisive.lo, result.decisive.hi) == pytest.approx((1.02, 1.02))
    assert verdict(claim("ratio_at_most", limit=1.0), Numbers(a=1.02 * b, b=b)) == "contradicted"


def test_a_ratio_without_an_upper_end_goes_into_every_file():
    # Two trainings whose times differ as much as these do not bound the ratio.
    (result,) = judge(
        [evaluate(claim("ratio_at_most", limit=1.05), Numbers(a=[[1.0, 2.0]], b=[[3.0, 0.1]]), TEST)], TEST
    )
    assert math.isinf(result.effects[0].hi)
    pairs = [(result, result)]
    assert page.to_json(pairs, TEST, "real")["claims"][0]["ours"]["comparisons"][0]["hi"] is None
    json.dumps(page.to_json(pairs, TEST, "real"), allow_nan=False)
    assert "∞]" in render.markdown(page.to_page(pairs, TEST, "real"))
    assert next(csv.DictReader(io.StringIO(page.to_csv(pairs))))["hi"] == "inf"


@pytest.mark.parametrize(("kind", "limit", "found"), [("at_least", 1.0, "supported"), ("at_most", 1.0, "contradicted"),
                                                      ("at_most", 3.0, "supported")])  # fmt: skip
def test_values_against_limits(kind, limit, found):
    assert verdict(claim(kind, limit=limit), Numbers(a=spread(2, 0.3))) == found


def test_monotone_needs_every_step():
    def found(*means, direction="rising"):
        rows = {f"m{i}": spread(mean, 0.1, seed=i) for i, mean in enumerate(means)}
        of = Claim("it", "", "", "t", "monotone", {"metric": "m", "of": {}, "along": "method", "direction": direction})
        return verdict(of, Numbers(**rows))

    assert found(0, 1, 2) == "supported"
    assert found(2, 1, 0) == "contradicted"
    assert found(0, 2, 1) == "contradicted"
    assert found(2, 1, 0, direction="falling") == "supported"
    assert found(0, 1, 1.001) == "open"
    assert found(0) == "open"  # one value has no step


def test_an_average_can_hold_where_its_parts_do_not():
    parts = {"x-a": spread(1, 0.2), "y-a": spread(-0.2, 0.2, seed=1), "x-b": spread(0, 0.2, seed=2)}
    numbers = Numbers(**{name.replace("-", "_"): values for name, values in parts.items()}, y_b=spread(0, 0.2, seed=3))
    over = {"reward": ["x", "y"]}
    of = claim(first="$reward-a", second="$reward-b")
    assert verdict(replace(of, each=over), numbers) == "contradicted"
    averaged = replace(of, average=over)
    assert verdict(averaged, numbers) == "supported"
    assert evaluate(averaged, numbers, TEST).effects[0].mean == pytest.approx(0.4)


def over_seeds(*means: float, sd=0.1) -> list[np.ndarray]:
    return [spread(mean, sd, seed=seed) for seed, mean in enumerate(means)]


def test_seeds_that_disagree_leave_it_open():
    zeros = np.zeros((3, 30))
    assert verdict(claim(), Numbers(seeds=(0, 1, 2), a=over_seeds(1, 1.01, 0.99), b=zeros)) == "supported"
    disagree = Numbers(seeds=(0, 1, 2), a=over_seeds(2, 1.5, -1), b=zeros)
    (result,) = judge([evaluate(claim(), disagree, TEST)], TEST)
    assert (result.verdict, result.seeds) == ("open", 3)
    assert result.reason == "holds in 1 of 1, not decided: lacks seeds"
    wide = Numbers(seeds=(0, 1, 2), a=np.stack([spread(0.1, 5)] * 3) + np.array([[0], [0.01], [0.02]]), b=zeros)
    (result,) = judge([evaluate(claim(), wide, TEST)], TEST)
    assert (result.verdict, result.reason) == ("open", "holds in 1 of 1, not decided: lacks prompts")


@pytest.mark.parametrize(("mean", "found"), [(1, "supported"), (-1, "contradicted"), (0, "no difference")])
def test_one_seed_speaks_of_the_trained_policies_alone(mean, found):
    numbers = Numbers(seeds=(0,), a=spread(mean, 0.1), b=np.zeros(30))
    (result,) = judge([evaluate(claim(smallest=0.5), numbers, TEST)], TEST)
    assert (result.verdict, result.of_policies, result.seeds) == ("open", found, 1)
    assert result.reason.startswith(f"for these trained policies alone: {found}, ")
    assert result.p_holm < 0.001


def test_methods_with_one_seed_do_not_keep_those_with_several_from_contradicting():
    class Mixed:
        """`several` has three seeds, the others one."""

        def __init__(self, several, one):
            self.parts = {"a": Numbers(seeds=(0, 1, 2), a=several), "b": Numbers(seeds=(0, 1, 2), b=np.zeros((3, 30)))}
            self.parts |= {"c": Numbers(seeds=(0,), c=one)}

        def measure(self, table, operand):
            return self.parts[operand.cell["method"]].measure(table, operand)

        def why_absent(self, table):
            return ""

        def why_unequal(self, operands):
            return ""

    of = claim(second="$other", each={"other": ["b", "c"]})
    below = Mixed(over_seeds(-1, -1.01, -0.99), spread(-9, 0.1))
    (result,) = judge([evaluate(of, below, TEST)], TEST)
    assert (result.verdict, result.seeds) == ("contradicted", 3)
    above = Mixed(over_seeds(1, 1.01, 0.99), spread(-9, 0.1))
    (result,) = judge([evaluate(of, above, TEST)], TEST)
    assert (result.verdict, result.of_policies, result.seeds) == ("open", "supported", 1)


def test_the_smallest_effect_that_would_have_been_found_shrinks_with_prompts_and_grows_with_claims():
    def smallest(units, claims):
        numbers = Numbers(a=spread(0, 1, units), b=np.zeros(units))
        results = [evaluate(claim(id=f"c{i}"), numbers, TEST) for i in range(claims)]
        (effect,) = (found := judge(results, TEST)[0]).effects
        return effect.smallest(found.level)

    # One-sided level 0.025, power 0.8, 100 units with variance 1: (1.984 + 0.85) / 10, t for z.
    assert smallest(100, 1) == pytest.approx(0.283, abs=0.005)
    assert smallest(400, 1) < smallest(100, 1) < smallest(100, 30)


def test_prompts_without_a_value_are_left_out():
    a, b = spread(1, 0.1), spread(0, 0.1, seed=1)
    a[0], b[1] = np.nan, np.nan
    (result,) = judge([evaluate(claim(), Numbers(a=a, b=b), TEST)], TEST)
    assert (result.verdict, result.decisive.units) == ("supported", 28)
