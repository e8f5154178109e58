"""Claims: the paper's own by hand, the logic of verdicts as laws, the vocabulary, and the command."""

import csv
import itertools
import json
import math
import sys
from dataclasses import replace

import make_claims
import numpy as np
import pytest
import yaml
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import evaluation, run, training

from hps import cli
from hps.claims.evidence import CsvTables, Measured, OurResults, Settings
from hps.claims.page import to_page
from hps.claims.verdicts import Level, evaluate, judge, judge_as_printed
from hps.claims.vocabulary import Claim, comparisons, read_claims
from hps.errors import InputError
from hps.results import read_evaluation, read_training
from hps.statistics import holm, sign_flip_p
from hps.tables import Choices

CLAIMS, SCHEMA, PAPER = ROOT / "paper/claims.yaml", ROOT / "paper/claims.schema.yaml", ROOT / "paper"
TEST = Level(resamples=2000)
SETTINGS = Settings(100, 0.1, "hh_rlhf", Choices([], [], []))


class Numbers:
    """Evidence made up: a number for each unit of a method, by its name."""

    def __init__(self, seeds=(0,), **values):
        self.by_method = {name.replace("_", "-"): np.atleast_2d(np.array(rows, float)) for name, rows in values.items()}
        self.seeds = seeds

    def measure(self, table, operand):
        values = self.by_method.get(operand.cell["method"])
        if values is None:
            return None
        units = tuple(f"p{i}" for i in range(values.shape[1]))
        return Measured(float(np.nanmean(values)), values, units, self.seeds)

    def values(self, table, column):
        return sorted(self.by_method)

    def why_absent(self, table):
        return "" if self.by_method else "nothing was made"


def claim(kind="greater", first="a", second="b", each=None, id="it", **details) -> Claim:
    operands = {"first": {"method": first}, "second": {"method": second}}
    if kind in ("at_least", "at_most"):
        operands = {"of": {"method": first}}
    return Claim(id, "Sec. 0", "says", "t", kind, {"metric": "m", **operands, **details}, each or {})


def verdict(of: Claim, evidence, test=TEST) -> str:
    (result,) = judge([evaluate(of, evidence, test)], test)
    return result.verdict


def spread(mean: float, sd: float, units=30, seed=0) -> np.ndarray:
    """Values with exactly this mean and standard deviation."""
    values = np.random.default_rng(seed).normal(size=units)
    return mean + sd * (values - values.mean()) / values.std()


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
    assert all((result.verdict == "open") == (result.claim.table == "theory") for result in results.values())
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


# --- Holm and sign flips


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])  # 3 * 0.01; 2 * 0.03; 0.04 stays below it
    assert holm([0.5, 0.001]) == pytest.approx([0.5, 0.002])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    assert [adjusted[i] for i in order] == sorted(adjusted)
    assert min(adjusted) == pytest.approx(min(1, len(p_values) * min(p_values)))


def test_sign_flips_against_all_of_them():
    values = np.array([0.3, -0.1, 0.8, 0.5, 0.2])
    means = [np.mean(values * signs) for signs in itertools.product((-1, 1), repeat=5)]
    exact = np.mean([mean >= values.mean() - 1e-12 for mean in means])
    ((above, below),) = sign_flip_p([values], resamples=32, seed=0)
    assert (above, below) == pytest.approx((exact, np.mean([mean <= values.mean() + 1e-12 for mean in means])))
    ((drawn, _),) = sign_flip_p([np.concatenate([values, values, values])], resamples=20000, seed=0)
    ((every, _),) = sign_flip_p([np.concatenate([values, values, values])], resamples=2**15, seed=0)
    assert drawn == pytest.approx(every, abs=0.005)


def test_sign_flips_without_units_or_differences():
    (nothing, zero, one) = sign_flip_p([np.empty(0), np.zeros(5), np.ones(1)], resamples=500, seed=0)
    assert all(math.isnan(p) for p in nothing)
    assert zero == (1.0, 1.0)
    assert one == (0.5, 1.0)


# --- verdicts


def test_clear_differences_decide_and_swapping_flips():
    numbers = Numbers(a=spread(1.0, 0.5), b=spread(0.0, 0.5, seed=1))
    assert verdict(claim(first="a", second="b"), numbers) == "supported"
    assert verdict(claim(first="b", second="a"), numbers) == "contradicted"


@given(shift=st.floats(-3, 3), sd=st.floats(0.01, 3), units=st.integers(2, 40), seed=st.integers(0, 99))
def test_swapping_the_methods_flips_the_verdict(shift, sd, units, seed):
    numbers = Numbers(a=spread(shift, sd, units, seed), b=spread(0, sd, units, seed + 100))
    test = Level(resamples=1000)
    flipped = {"supported": "contradicted", "contradicted": "supported", "open": "open"}
    assert verdict(claim(first="b", second="a"), numbers, test) == flipped[verdict(claim(), numbers, test)]


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
    found = verdict(claim("within", tolerance=0.5), numbers, Level(resamples=1000))
    if found == "supported":
        assert abs(shift) < 0.5
    elif found == "contradicted":
        assert abs(shift) > 0.5
    elif scale < 0.05:
        assert 0.4 < abs(shift) < 0.6


def test_a_tolerance_in_standard_deviations_follows_the_scale():
    def found(scale, shift):
        base = spread(0, scale, 40)
        numbers = Numbers(a=base + shift + spread(0, scale / 100, 40, 2), b=base)
        return verdict(claim("within", tolerance=1e-9, tolerance_sd=0.1), numbers)

    assert found(10.0, 0.5) == "supported"
    assert found(1.0, 0.5) == "contradicted"


def test_a_ratio_is_of_means_and_paired():
    b = spread(10, 1)
    (result,) = judge([evaluate(claim("ratio_at_most", limit=1.05), Numbers(a=1.02 * b, b=b), TEST)], TEST)
    assert result.verdict == "supported"
    assert result.decisive.mean == pytest.approx(1.02)
    assert result.decisive.lo == pytest.approx(1.02)
    assert verdict(claim("ratio_at_most", limit=1.0), Numbers(a=1.02 * b, b=b)) == "contradicted"


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


def test_seeds_that_disagree_leave_it_open():
    noise = [spread(0, 0.1, seed=seed) for seed in range(3)]
    agree = Numbers(seeds=(0, 1, 2), a=[1 + row for row in noise], b=np.zeros((3, 30)))
    assert verdict(claim(), agree) == "supported"
    disagree = Numbers(seeds=(0, 1, 2), a=[noise[0] + 2, noise[1] + 1.5, noise[2] - 1], b=np.zeros((3, 30)))
    (result,) = judge([evaluate(claim(), disagree, TEST)], TEST)
    assert result.decisive.lo > 0  # over prompts alone it would be clear
    assert result.decisive.seeds_lo < 0
    assert result.verdict == "open"


def test_prompts_without_a_value_are_left_out():
    a, b = spread(1, 0.1), spread(0, 0.1, seed=1)
    a[0], b[1] = np.nan, np.nan
    (result,) = judge([evaluate(claim(), Numbers(a=a, b=b), TEST)], TEST)
    assert (result.verdict, result.decisive.units) == ("supported", 28)


# --- evidence


def folders(tmp_path, margins: dict, test_set="hh_rlhf", **of) -> list:
    made = []
    for method, values in margins.items():
        prompts = [{"margin_human": float(value)} for value in values]
        name = f"{method}-{test_set}-{'-'.join(map(str, of.values()))}"
        made.append(evaluation(tmp_path / name, run(method, **of) if method != "sft" else None, prompts, test_set))
    return made


def results_of(paths, trainings=(), tables=None) -> OurResults:
    others = CsvTables.read(tables or {})
    return OurResults.of(map(read_evaluation, paths), [read_training(folder) for folder in trainings], SETTINGS, others)


def test_our_evaluations_decide_a_claim_of_table_2(tmp_path):
    base = spread(0, 1, seed=9)
    paths = folders(tmp_path, {"dpo-hps": 20 + base, "dpo-bt": base + spread(0, 1), "sft": base})
    of = Claim("it", "", "", "table2", "greater",
               {"metric": "rm_dpo", "first": {"evaluated_on": "hh_rlhf", "method": "dpo-hps"},
                "second": {"evaluated_on": "hh_rlhf", "method": "dpo-bt"}})  # fmt: skip
    (result,) = judge([evaluate(of, results_of(paths), TEST)], TEST)
    assert result.verdict == "supported"
    assert result.decisive.mean == pytest.approx(2.0)  # beta * 20
    assert result.decisive.units == 30


def test_each_run_stands_in_its_tables(tmp_path):
    ones = np.ones(3)
    paths = folders(tmp_path, {"dpo-hps": ones}) + folders(tmp_path, {"dpo-hps": ones}, n=5)
    paths += folders(tmp_path, {"dpo-hps": ones}, "pku_saferlhf", n=20)
    paths += folders(tmp_path, {"dpo-hps": ones}, beta=0.5)
    paths += folders(tmp_path, {"dpo-hps": ones}, "hh_rlhf", dataset="pku_saferlhf")
    ours = results_of(paths)
    assert {table: sorted(rows) for table, rows in ours.grid.items()} == {
        "table2": [("hh_rlhf", "dpo-hps")],
        "table5": [("hh_rlhf", "dpo-hps")],
        "table6": [(5.0, "dpo-hps"), (100.0, "dpo-hps")],
        "table7": [(20.0, "dpo-hps")],
        "table8": [(0.1, "dpo-hps"), (0.5, "dpo-hps")],
    }
    assert ours.values("table6", "n") == [5.0, 100.0]


def test_the_same_row_and_seed_twice_is_refused(tmp_path):
    paths = folders(tmp_path / "a", {"dpo-hps": np.ones(2)}) + folders(tmp_path / "b", {"dpo-hps": np.ones(2)})
    with pytest.raises(InputError, match="the same row and seed as"):
        results_of(paths)


def test_training_times_are_paired_by_run(tmp_path):
    seconds = {"bt": 1.0, "hps": 1.02, "pl": 3.0}
    runs = [
        training(tmp_path / f"{reward}{dataset}{loss}", run(f"{reward}-{loss}", dataset), step_seconds=value * speed)
        for (reward, speed), dataset in itertools.product(
            (("dpo", 1.0), ("exo", 2.0), ("ipo", 1.5), ("sppo", 1.2), ("nca", 1.1)), ("hh_rlhf", "pku_saferlhf")
        )
        for loss, value in seconds.items()
    ]
    ours = results_of([], runs)
    chosen = [c for c in read_claims(CLAIMS, SCHEMA) if c.table == "training_time"]
    verdicts = {r.claim.id: r for r in judge([evaluate(c, ours, Level()) for c in chosen], Level())}
    assert verdicts["time_near_bt"].verdict == "supported"
    assert verdicts["time_near_bt"].decisive.mean == pytest.approx(1.02)
    assert verdicts["time_near_bt"].decisive.units == 10
    assert verdicts["pl_slower_than_bt"].verdict == "supported"
    assert verdicts["time_saved_against_pl"].verdict == "supported"


def write_table4(path, win, lose, half) -> str:
    columns = ["evaluated_on", "opponent", *(f"{name}{end}" for name in ("win", "lose") for end in ("", "_lo", "_hi"))]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        for data, other in itertools.product(("hh_rlhf", "pku_saferlhf"), ("sft", "dpo-bt", "dpo-pl")):
            values = (
                (win, win - half, win + half, lose, lose - half, lose + half) if half else (win, "", "", lose, "", "")
            )
            writer.writerow([data, other, *values])
    return str(path)


@pytest.mark.parametrize(
    ("win", "lose", "half", "found"),
    [(60, 10, 5, "supported"), (10, 60, 5, "contradicted"), (40, 35, 20, "open"), (60, 10, 0, "open")],
)
def test_tables_with_intervals_decide_and_without_do_not(tmp_path, win, lose, half, found):
    (of,) = [c for c in read_claims(CLAIMS, SCHEMA) if c.id == "judge_win_rate"]
    ours = results_of([], tables={"table4": write_table4(tmp_path / "table4.csv", win, lose, half)})
    assert verdict(of, ours) == found


def write_table(path, rows: list[dict]) -> str:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def table3(path, simulated="no", prompts=30, difference=True) -> str:
    score = {"sft": 3.0, "dpo-bt": 3.4, "dpo-pl": 3.3, "dpo-hps": 3.8}
    rows = []
    for method, mean in score.items():
        row = {"method": method, "quality_score": mean, "quality_score_lo": mean - 0.5, "quality_score_hi": mean + 0.5}
        row |= {"prompts": prompts, "simulated": simulated}
        gap = 3.8 - mean
        if difference:
            known = {"difference": gap, "difference_lo": gap - 0.1, "difference_hi": gap + 0.1}
            row |= known if gap else dict.fromkeys(known, "")
        rows.append(row)
    return write_table(path, rows)


def human(path):
    (of,) = [c for c in read_claims(CLAIMS, SCHEMA) if c.id == "human_quality"]
    (result,) = judge([evaluate(of, results_of([], tables={"table3": path}), TEST)], TEST)
    return result


def test_a_paired_difference_decides_where_two_intervals_do_not(tmp_path):
    assert human(table3(tmp_path / "table3.csv")).verdict == "supported"
    assert human(table3(tmp_path / "apart.csv", difference=False)).verdict == "open"


def test_simulated_raters_and_few_prompts_never_decide(tmp_path):
    simulated = human(table3(tmp_path / "simulated.csv", simulated="yes"))
    assert (simulated.verdict, simulated.reason) == ("open", "the ratings are simulated")
    assert human(table3(tmp_path / "few.csv", prompts=4)).verdict == "open"


# --- vocabulary


def test_each_and_average_are_expanded():
    of = claim(first="$reward-a", second="$reward-$loss", each={"loss": ["b", "c"]})
    of = replace(of, average={"reward": ["x", "y"]})
    found = comparisons(of, lambda column: [])
    assert [comparison.label for comparison in found] == ["b, mean over reward", "c, mean over reward"]
    assert [[o.cell["method"] for o in term] for term in found[1].terms] == [["x-a", "x-c"], ["y-a", "y-c"]]


WRONG = {
    "an unknown kind": ({"kind": "bigger"}, "claim it: "),
    "an unknown key": ({"threshold": 1}, "claim it: "),
    "no operand": ({"second": None}, "claim it: "),
    "no such name": ({"first": {"method": "$reward-hps"}}, r"'\$reward-hps' names something that is not given"),
    "no metric": ({"metric": None}, "claim it: no metric"),
    "code": ({"margin": "__import__('os')"}, "claim it: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_claim_that_is_wrong_is_named(tmp_path, case):
    changes, message = WRONG[case]
    good = {"id": "it", "section": "s", "says": "x", "table": "table2", "kind": "greater", "metric": "bleu",
            "first": {"method": "a"}, "second": {"method": "b"}}  # fmt: skip
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({"claims": [good]}))
    assert read_claims(path, SCHEMA)[0].id == "it"
    wrong = {key: value for key, value in (good | changes).items() if value is not None}
    path.write_text(yaml.safe_dump({"claims": [wrong]}))
    with pytest.raises(InputError, match=message) as error:
        read_claims(path, SCHEMA)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_claim_twice_is_refused(tmp_path):
    path = tmp_path / "claims.yaml"
    given_twice = yaml.safe_load(CLAIMS.read_text())["claims"][:1] * 2
    path.write_text(yaml.safe_dump({"claims": given_twice}))
    with pytest.raises(InputError, match="stands twice"):
        read_claims(path, SCHEMA)


# --- page and command


def command(tmp_path, *more: str, **changes) -> list[str]:
    outputs = ("csv", "json", "markdown", "html", "fragment")
    options = {name: tmp_path / f"out.{name}" for name in outputs}
    options |= {"claims": CLAIMS, "schema": SCHEMA, "paper": PAPER, "resamples": 1000} | changes
    options |= {"grid-n": 100, "beta": 0.1, "ablation-dataset": "hh_rlhf"}
    return ["make_claims.py", *(str(word) for name, value in options.items() for word in (f"--{name}", value)), *more]


def test_the_command_writes_the_same_each_time(tmp_path, monkeypatch):
    base = spread(0, 1, seed=9)
    paths = folders(tmp_path, {"dpo-hps": 20 + base, "dpo-bt": base})
    words = command(tmp_path, "--evaluations", *map(str, paths), world="toy")
    written = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", words)
        cli.run(make_claims.main, make_claims.Arguments)
        written.append({path.name: path.read_bytes() for path in tmp_path.glob("out.*")})
    assert written[0] == written[1]
    rows = list(csv.DictReader(written[0]["out.csv"].decode().splitlines()))
    assert len(rows) == len(read_claims(CLAIMS, SCHEMA))
    by_id = {row["id"]: row for row in rows}
    assert by_id["rm_dpo_over_bt"]["verdict"] == "open"
    assert by_id["rm_dpo_over_bt"]["missing"] == "9"
    assert by_id["human_quality"]["reason"] == "table3 has not been made"
    record = json.loads(written[0]["out.json"])
    assert record["world"] == "toy"
    found = record["claims"][1]["ours"]["comparisons"]
    assert [(one["label"], round(one["mean"], 6)) for one in found] == [("hh_rlhf, dpo", 2.0)]
    for name in ("out.html", "out.markdown", "out.fragment"):
        assert (b"toy world" in written[0][name]) == (name != "out.fragment")  # its page says so
        assert "✗\N{NO-BREAK SPACE}contradicted".encode() in written[0][name]
    assert b"<html" not in written[0]["out.fragment"]


def test_the_list_has_a_row_a_claim_with_words_beside_marks():
    theirs = CsvTables.of_the_paper(PAPER)
    claims = read_claims(CLAIMS, SCHEMA)
    pairs = [(judge_as_printed(evaluate(c, theirs, TEST)), evaluate(c, Numbers(), TEST)) for c in claims]
    page = to_page(pairs, TEST, "real")
    assert len(page.tables[0].rows) == len(claims)
    assert {row[-1].text for row in page.tables[0].rows} == {"○\N{NO-BREAK SPACE}open"}
    assert f"{len(claims)} claims" in page.notes[0]


def test_a_wrong_file_ends_in_one_line_and_writes_nothing(tmp_path, monkeypatch):
    wrong = tmp_path / "claims.yaml"
    wrong.write_text("claims: [{id: it}]")
    monkeypatch.setattr(sys, "argv", command(tmp_path, claims=wrong))
    with pytest.raises(SystemExit, match=r"^error: .*claims\.yaml: claim it: "):
        cli.run(make_claims.main, make_claims.Arguments)
    assert not list(tmp_path.glob("out.*"))
