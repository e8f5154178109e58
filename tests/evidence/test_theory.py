"""Theory: losses against the trainer's own, minimisers and margins against other methods, what the theorems show."""

import csv
import itertools

import numpy as np
import pytest
import torch
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from synthetic_results import configuration, report

from hps.evidence.claims.evidence import CsvTables
from hps.evidence.claims.verdicts import Level, evaluate, judge
from hps.evidence.claims.vocabulary import read_claims
from hps.evidence.figures.theory import theory
from hps.evidence.theory.experiments import Sizes, measure
from hps.evidence.theory.linear import (
    bt_stages,
    hps_stages,
    loss,
    max_margin,
    minimise,
    pl_stages,
    ranked,
    unit_features,
)
from hps.evidence.theory.page import to_csv
from hps.method.objectives import Objective

SIZES = Sizes(3, (60, 240, 960), (2, 4, 8), 8, 0)


@pytest.fixture
def data():
    """Features of 6 prompts with 5 responses, best first under theta, and theta."""
    generator = np.random.default_rng(0)
    theta = generator.standard_normal(3)
    return ranked(unit_features(6, 5, 3, generator), theta, None), theta


@pytest.mark.parametrize(("name", "more"), [("pl", {}), ("bt", {}), ("hps_full", {"gamma": 1.5})])
def test_losses_are_those_that_policies_are_trained_with(data, name, more):
    """With beta = 1 and log-ratios equal to the linear scores; best first, rewards fall along the row."""
    features, theta = data
    policy = np.array([0.3, -1.0, 2.0])
    rewards = features @ theta
    stages = {"pl": pl_stages, "bt": bt_stages, "hps_full": lambda f: hps_stages(f, rewards, 1.5)}[name](features)
    scores = torch.tensor(features @ policy)
    trained = Objective("dpo", name, beta=1.0, multiplicity="n_minus_1")(scores, torch.tensor(rewards), **more)
    assert loss(stages, policy) == pytest.approx(np.atleast_1d(trained.numpy()))


def test_minimum_has_no_slope_and_a_ridge_shrinks_it(data):
    features, _ = data
    shuffled = ranked(features, np.zeros(3), np.random.default_rng(1))
    for stages in (pl_stages(shuffled), hps_stages(shuffled, shuffled @ np.ones(3), 1.0)):
        best = minimise(stages, ridge=0.1)
        for direction in np.eye(3):
            for step in (1e-3, -1e-3):
                other = best + step * direction
                moved = loss(stages, other).mean() + 0.05 * other @ other
                assert moved > loss(stages, best).mean() + 0.05 * best @ best
        assert np.linalg.norm(minimise(stages, ridge=10.0)) < np.linalg.norm(best)


def test_a_likelihood_finds_the_parameter():
    theta = np.array([1.0, -0.5, 2.0])
    generator = np.random.default_rng(3)
    features = ranked(unit_features(20000, 4, 3, generator), theta, generator)
    assert minimise(pl_stages(features)) == pytest.approx(theta, abs=0.1)
    assert minimise(hps_stages(features, features @ theta, 0.0)) == pytest.approx(theta, abs=0.15)
    assert np.linalg.norm(minimise(hps_stages(features, features @ theta, 1.0)) - theta) > 0.4


def test_separable_preferences_have_no_minimum_without_a_ridge(data):
    features, _ = data
    with pytest.raises(ValueError, match="no minimum"):
        minimise(pl_stages(features))


@given(st.integers(0, 200), st.integers(2, 6), st.integers(1, 8))
def test_the_widest_margin_is_widest(seed, n, prompts):
    generator = np.random.default_rng(seed)
    theta = generator.standard_normal(2)
    features = ranked(unit_features(prompts, n, 2, generator), theta, None)
    differences = (features[:, :1] - features[:, 1:]).reshape(-1, 2)
    angles = np.linspace(0, 2 * np.pi, 20001)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    widest = (circle @ differences.T).min(axis=1).max()
    found = max_margin(features)
    assert np.linalg.norm(found) == pytest.approx(1)
    assert (differences @ found).min() == pytest.approx(widest, abs=1e-3)


def test_preferences_that_contradict_each_other_have_no_margin():
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    with pytest.raises(ValueError, match="no linear reward separates"):
        max_margin(np.array([[a, b], [b, a]]))


@pytest.fixture(scope="module")
def points():
    return measure(SIZES)


def summary(points, quantity, method) -> float:
    (found,) = [p.estimate.mean for p in points if (p.quantity, p.method) == (quantity, method) and np.isnan(p.x)]
    return found


def test_theorem_1(points):
    assert summary(points, "exponent_m", "hps") == pytest.approx(-0.5, abs=0.15)
    assert summary(points, "exponent_m", "pl") == pytest.approx(-0.5, abs=0.15)
    assert summary(points, "exponent_m", "hps_gamma1") > -0.2
    assert summary(points, "error_ratio", "hps_over_pl") > 1.3
    at_2 = {p.method: p.estimate.mean for p in points if p.quantity == "error_by_n" and p.x == 2}
    assert at_2["hps"] == pytest.approx(at_2["pl"]) == pytest.approx(at_2["hps_gamma1"])  # n = 2: all are BT


def test_theorem_2(points):
    gaps = {m: [p.estimate.mean for p in points if p.quantity == "gap" and p.method == m] for m in ("same", "other")}
    assert all(after < before for before, after in itertools.pairwise(gaps["same"]))
    assert all(gap >= 0 for gap in gaps["same"] + gaps["other"])
    assert gaps["same"][-1] < 0.01 < gaps["other"][-1]


def test_theorem_3(points):
    for method in ("hps", "hps_gamma5"):
        cosines = [p.estimate.mean for p in points if p.quantity == "cosine" and p.method == method]
        assert cosines[-1] > 0.999
        assert cosines[-1] > cosines[0]
    assert summary(points, "cosine_at_end", "bt") < 0.995


def test_verdicts_of_the_theorems(points, tmp_path):
    (tmp_path / "theory.csv").write_text(to_csv(points))
    evidence = CsvTables.read({"theory": tmp_path / "theory.csv"})
    chosen = [
        c for c in read_claims(ROOT / "paper/claims.yaml", ROOT / "paper/claims.schema.yaml") if c.table == "theory"
    ]
    level = Level(alpha=0.1)  # eight repetitions cannot give p-values below 0.004
    verdicts = {r.claim.id: r.verdict for r in judge([evaluate(c, evidence, level) for c in chosen], level)}
    assert verdicts["sample_efficiency"] == "contradicted"
    assert verdicts["theorem2_worst_case_other_rewards"] == "contradicted"
    for name in ("theorem1_hps_in_responses", "theorem1_pl_in_responses", "theorem2_worst_case_own_scores"):
        assert verdicts[name] == "supported"
    assert verdicts["theorem3_max_margin"] == "supported"


def test_the_figure_has_a_panel_a_question(points):
    figure = theory(points)
    assert [axes.get_title()[:9] for axes in figure.axes] == ["Theorem 1", "Theorem 1", "Theorem 2", "Theorem 3"]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)


def test_the_command_writes_the_same_each_time(tmp_path):
    written = []
    for _ in range(2):
        report("theory", "--config", configuration(tmp_path), "--out", tmp_path / "out")
        written.append({path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()})
    assert written[0] == written[1]
    assert len(written[0]) == 5
    rows = list(csv.DictReader(written[0]["theory.csv"].decode().splitlines()))
    assert {row["theorem"] for row in rows} == {"1", "2", "3"}


def test_sizes_that_do_not_rise_are_refused(tmp_path):
    config = configuration(tmp_path, theory__prompts=[120, 60])
    with pytest.raises(SystemExit, match=r"config\.json: theory\.prompts: \[120, 60\] are not at least two rising"):
        report("theory", "--config", config, "--out", tmp_path)
