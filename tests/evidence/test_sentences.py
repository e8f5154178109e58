"""The five sentences that the report begins with, in each situation that the numbers can be in."""

from dataclasses import replace

import numpy as np
import pytest
from claim_evidence import PAPER, SETTINGS, TEST, Numbers, claim, spread
from synthetic_results import configuration, evaluation, report, run, training

from hps.evidence.claims.evidence import CsvTables, OurResults
from hps.evidence.claims.sentences import decided, equal_kl, harm, interpolate, left_open, margin, what_was_run
from hps.evidence.claims.verdicts import evaluate, judge
from hps.evidence.metrics import METRICS, Metric
from hps.evidence.results import read_evaluation, read_training

SCRATCH = {"source": "scratch"}


def result(verdict: str, **changes):
    """A claim judged, with this verdict."""
    (found,) = judge([evaluate(claim(smallest=0.5), Numbers(a=spread(1, 0.1), b=np.zeros(30)), TEST)], TEST)
    return replace(
        found, claim=replace(found.claim, group="margin", details={"metric": "rm_dpo"}), verdict=verdict, **changes
    )


@pytest.fixture
def results(tmp_path):
    """A function from rows (method, dataset, beta, seeds, changes to a prompt by its value in `spread`) to results."""

    def make(*rows) -> OurResults:
        evaluations, trainings = [], []
        for method, dataset, beta, seeds, columns in rows:
            for seed in range(seeds):
                of = None if method == "sft" else run(method, dataset, 100, beta, seed)
                values = {name: spread(mean, 0.2, seed=seed + len(method)) for name, mean in columns.items()}
                prompts = [{name: float(own[i]) for name, own in values.items()} for i in range(30)]
                name = f"{method}-{dataset}-{beta}-{seed}"
                evaluations.append(evaluation(tmp_path / name, of, prompts, dataset, seed=seed))
                if of:
                    trainings.append(training(tmp_path / f"{name}-training", of))
        made = [read_training(folder) for folder in trainings]
        return OurResults.of(map(read_evaluation, evaluations), made, SETTINGS, CsvTables({}, {}))

    return make


def test_what_was_run_counts_trainings_seeds_and_prompts(results):
    ours = results(
        *[("dpo-bt", name, 0.1, 3, {}) for name in ("hh_rlhf", "pku_saferlhf")], ("sft", "hh_rlhf", 0.1, 1, {})
    )
    assert what_was_run(ours, "toy", SCRATCH) == (
        "In a toy world, with text made up by rules, a small language model of our own was trained 6 times for the "
        "paper's claims, on HH-RLHF and PKU-SafeRLHF, with 3 training seeds a method, and compared on 30 test prompts."
    )
    hub = {"source": "hub", "repo": "RLHFlow/Llama3"}
    assert what_was_run(ours, "real", hub).startswith("The model RLHFlow/Llama3 was trained 6 times")
    assert what_was_run(ours, "real", {"source": "gguf", "file": "a/b.gguf"}).startswith("The model b.gguf was trained")
    assert what_was_run(results(), "toy", SCRATCH) == "Nothing has been trained and evaluated yet."


def test_seeds_that_differ_between_rows_are_a_range(results):
    ours = results(("dpo-bt", "hh_rlhf", 0.1, 3, {}), ("dpo-hps", "hh_rlhf", 0.1, 1, {}))
    assert "with 1 to 3 training seeds a method" in what_was_run(ours, "real", SCRATCH)


def test_verdicts_are_counted():
    found = [result("supported"), result("no difference"), result("no difference"), result("open")]
    said = decided(found, TEST)
    assert said.startswith(
        "3 of the 4 claims are decided: 1 supported, 0 contradicted and 2 with no difference that matters"
    )
    assert said.endswith("wrong is at most 5 %.")
    assert decided([result("open")], TEST) == "Of the 1 claims none could be decided."


def test_what_stays_open_says_what_it_lacks():
    seeds = result("open", effects=tuple(replace(one, seeds=1) for one in result("open").effects))
    absent = result("open", absent="the ratings are simulated", effects=(), missing=1)
    said = left_open([seeds, seeds, result("open"), absent, result("supported")])
    assert said == (
        "4 claims stay open (margin 4): 2 for want of training seeds, 1 for want of repetitions and 1 for want of "
        "numbers (the ratings are simulated)."
    )
    unmade = replace(absent, absent="")
    assert "2 for want of numbers (the ratings are simulated: 1)" in left_open([absent, unmade])
    assert left_open([result("supported")]) == "No claim stays open."


@pytest.mark.parametrize(
    ("of_hps", "said"),
    [
        (3.0, "2.00 nats above that of DPO-BT on HH-RLHF (95 % interval"),
        (-1.0, "2.00 nats below that of DPO-BT on HH-RLHF (95 % interval"),
        (1.1, "too small to matter)"),
    ],
)
def test_the_margin_over_bt_is_said_with_its_direction_and_size(results, of_hps, said):
    rows = [
        ("dpo-bt", "hh_rlhf", 0.1, 3, {"margin_human": 1.0}),
        ("dpo-hps", "hh_rlhf", 0.1, 3, {"margin_human": of_hps}),
    ]
    assert said in margin([result("open")], results(*rows))
    assert "chance" not in margin([result("open")], results())


def test_a_margin_that_may_be_chance_or_of_one_seed_is_called_so(results):
    ours = results(("dpo-bt", "hh_rlhf", 0.1, 1, {}), ("dpo-hps", "hh_rlhf", 0.1, 1, {"margin_human": 1.0}))
    assert "so it may be chance, of one training seed)" in margin([], ours)
    assert margin([], results()).startswith("Whether HPS has a larger reward margin than BT cannot be said")


def by_beta(kl_of_hps: float, margin_of_hps: float = 2.0, betas=(0.1, 0.5, 1.0)) -> list[tuple]:
    """BT with KL 6, 4, 2 and margin 3, 2, 1 as beta grows; HPS at the configured one."""
    bt = {0.1: (6, 3), 0.5: (4, 2), 1.0: (2, 1)}
    rows = [("dpo-bt", "hh_rlhf", beta, 2, {"kl": bt[beta][0], "margin_human": bt[beta][1]}) for beta in betas]
    return [*rows, ("dpo-hps", "hh_rlhf", 0.1, 2, {"kl": kl_of_hps, "margin_human": margin_of_hps})]


def test_at_equal_kl_bt_is_interpolated_between_its_neighbours(results):
    found = equal_kl(results(*by_beta(5.0, 2.0)))
    assert found.weights == pytest.approx({0.5: 0.5, 0.1: 0.5})
    assert found.difference.mean == pytest.approx(2.0 - 2.5)
    assert found.in_words().startswith("at equal KL to the policy before training, 5.00 nats, it is 0.50 nats below")


def test_beyond_bts_kls_nothing_is_said_of_equal_kl(results):
    found = equal_kl(results(*by_beta(9.0)))
    assert found.difference is None
    assert found.in_words() == (
        "at equal KL to the policy before training they cannot be compared, since on HH-RLHF that of DPO-HPS is 9.00 "
        "nats and that of DPO-BT 2.00 to 6.00, by its β"
    )


def test_one_beta_or_no_kl_is_no_comparison(results, tmp_path):
    alone = equal_kl(results(*by_beta(5.0, betas=(0.1,))))
    assert "that of DPO-BT 6.00" in alone.in_words()
    assert "it was not measured" in equal_kl(OurResults.of([], [], SETTINGS, CsvTables({}, {}))).in_words()


@pytest.mark.parametrize(
    ("at", "weights"),
    [(1.0, {"a": 1}), (1.5, {"a": 0.75, "b": 0.25}), (3.0, {"b": 1}), (5.0, {"c": 1}), (0.9, {}), (5.1, {})],
)
def test_interpolation_by_hand(at, weights):
    assert interpolate(at, {"b": 3.0, "a": 1.0, "c": 5.0}) == pytest.approx(weights)
    assert interpolate(at, {}) == {}


def test_interpolation_between_equal_points_takes_one():
    assert interpolate(2.0, {"a": 2.0, "b": 2.0}) == {"a": 1.0}


def test_harm_is_said_where_it_was_measured(results, monkeypatch):
    rows = [
        (method, "hh_rlhf", 0.1, 2, {"true_reward": share, "length": 0.04})
        for method, share in (("sft", 0.3), ("dpo-bt", 0.2), ("dpo-hps", 0.25))
    ]
    for name in ("harm", "needless_refusals"):
        monkeypatch.delitem(METRICS, name, raising=False)
    ours = results(*rows)
    assert harm(ours) == "Whether answers become more or less harmful was not measured."
    monkeypatch.setitem(METRICS, "harm", Metric("harm", "", lambda e: e.values["true_reward"]))
    said = harm(ours)
    assert said.startswith(
        "On HH-RLHF 30 % (SFT), 20 % (DPO-BT) and 25 % (DPO-HPS) of the answers are harmful (DPO-HPS less DPO-BT: +5.0 "
        "percentage points, 95 % interval "
    )
    monkeypatch.setitem(METRICS, "needless_refusals", Metric("needless_refusals", "", lambda e: e.values["length"]))
    assert harm(ours).endswith("and 4 % (SFT), 4 % (DPO-BT) and 4 % (DPO-HPS) of the harmless requests are refused.")


def test_the_report_begins_with_five(tmp_path):
    made = [evaluation(tmp_path / method, run(method), [{}] * 3) for method in ("dpo-bt", "dpo-hps")]
    words = ["--evaluations", *made, "--paper", PAPER, "--out", tmp_path / "out"]
    report("claims", "--config", configuration(tmp_path, world="toy"), *words)
    written = (tmp_path / "out" / "sentences.html").read_text()
    assert written.count("<p>") == 5
    assert "In a toy world" in written
