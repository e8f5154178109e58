"""Probes: the fit by hand, the choice of layer and ridge, and a command whose model scores as its features say."""

import math

import fit_probe
import numpy as np
import pytest
from conftest import plum_pairs

from hps.data.schemas import PAIRS
from hps.models import entry, probe
from hps.models.reward_model import RewardModel
from hps.support.errors import InputError
from hps.support.files import read_json, write_table


def test_of_one_feature_the_fit_is_where_the_gradient_is_zero():
    d = np.array([[2.0], [1.0], [-1.0]])
    (w,) = probe.fit(d, ridge=0.1)
    gradient = -(d[:, 0] / (1 + np.exp(w * d[:, 0]))).mean() + 0.1 * w
    assert gradient == pytest.approx(0, abs=1e-6)
    assert probe.mean_loss(d, np.array([w])) < probe.mean_loss(d, np.zeros(1)) == pytest.approx(math.log(2))


def test_the_layer_that_tells_is_chosen_and_all_pairs_of_a_prompt_share_a_fold():
    noise, signal = np.random.default_rng(0).normal(size=(2, 200, 5))
    signal[:, 0] += 2
    prompts = [f"p{i // 2}" for i in range(200)]
    chosen = probe.choose({1: noise, 2: signal}, prompts, seed=0)
    assert chosen.layers == 2
    assert chosen.loss < 0.4
    assert probe.choose({1: noise, 2: signal}, prompts, seed=0) == chosen
    copied = np.repeat(noise[:100], 2, axis=0)  # a fold that saw the copy would look better than chance
    assert probe.choose({1: copied}, prompts, seed=0, ridges=[1e-3]).loss > math.log(2) - 0.02


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    rows = plum_pairs(80, seed=1)
    path = tmp_path_factory.mktemp("pairs") / "reward.parquet"
    write_table(path, rows, PAIRS)
    return str(path), rows


@pytest.mark.parametrize("layers", [[1], [1, 2]])
def test_a_probe_is_a_reward_model_that_prefers_what_is_preferred(model_folder, pairs, layers, tmp_path):
    path, rows = pairs
    given = {"role": "reward", "base": str(model_folder), "pairs": [path], "layers": layers}
    for name in ("one", "again"):
        fit_probe.main(fit_probe.Arguments(**given, out=str(tmp_path / name)))
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "again")]
    assert weights[0] == weights[1]
    facts = read_json(tmp_path / "one" / "model.json")
    assert (facts["source"], facts["metrics"]["training_pairs"]) == ("probe", 56)
    assert facts["metrics"]["layers"] in layers
    assert facts["metrics"]["held_out_accuracy"] > 0.8
    scorer = RewardModel.load(tmp_path / "one")
    assert scorer.model.config.num_hidden_layers == facts["metrics"]["layers"]
    scores = scorer.score([(row["messages"], row[reply]) for row in rows for reply in ("chosen", "rejected")])
    assert np.mean(np.array(scores[::2]) > np.array(scores[1::2])) > 0.8


def test_features_are_those_of_the_models_own_forward(model_folder):
    import torch

    sequences = [[5, 6, 7, 8], [9, 10, 11], [5] * 9]
    model = probe.classifier(model_folder, 2, "float32")
    torch.manual_seed(0)
    model.score.weight.data.normal_()
    (states,) = probe.features(model, sequences, [2], batch_tokens=12)
    model.config.pad_token_id = 0
    for ids, state in zip(sequences, states, strict=True):
        (own,) = model(torch.tensor([ids])).logits[0].tolist()
        assert float(model.score.weight[0].detach() @ torch.from_numpy(state)) == pytest.approx(own, abs=1e-4)


def test_with_role_harm_it_is_a_classifier_of_labelled_responses(model_folder, pairs, tmp_path):
    """Harmful replies end in `door` here, whether chosen or rejected; a third of the labels is not known."""
    rows = []
    for i, row in enumerate(pairs[1]):
        both = [row["chosen"], row["rejected"]] if i % 2 else [row["rejected"], row["chosen"]]
        harmful = [text.endswith("door") if (i + j) % 3 else None for j, text in enumerate(both)]
        names = ("chosen", "rejected", "chosen_harmful", "rejected_harmful")
        rows.append(row | dict(zip(names, both + harmful, strict=True)))
    path = tmp_path / "labelled.parquet"
    write_table(path, rows, PAIRS)
    given = {"role": "harm", "base": str(model_folder), "layers": [1, 2], "out": str(tmp_path / "harm")}
    fit_probe.main(fit_probe.Arguments(**given, pairs=[pairs[0], str(path)]))  # the first has no labels
    metrics = read_json(tmp_path / "harm" / "model.json")["metrics"]
    assert metrics["held_out_responses"] + metrics["training_responses"] == sum(
        row[f"{reply}_harmful"] is not None for row in rows for reply in ("chosen", "rejected")
    )
    assert metrics["held_out_accuracy_lo"] > metrics["base_rate"] >= 0.5
    texts = [(row["messages"], row[reply]) for row in rows for reply in ("chosen", "rejected")]
    scores = RewardModel.load(tmp_path / "harm").score(texts)
    right = [(score > 0) == text.endswith("door") for score, (_, text) in zip(scores, texts, strict=True)]
    assert np.mean(right) > 0.75
    entry.check(tmp_path / "harm", "harm")
    one_label = [row | {"chosen_harmful": True, "rejected_harmful": None} for row in rows]
    write_table(path, one_label, PAIRS)
    with pytest.raises(InputError, match="all responses to fit on have the same label"):
        fit_probe.main(fit_probe.Arguments(**given, pairs=[str(path)]))
    with pytest.raises(InputError, match="0 labelled responses are too few"):
        fit_probe.main(fit_probe.Arguments(**given, pairs=[pairs[0]]))


def test_more_layers_than_there_are_and_too_few_pairs_are_one_line(model_folder, pairs, tmp_path):
    given = {"role": "reward", "base": str(model_folder), "out": str(tmp_path / "out")}
    with pytest.raises(InputError, match="5 layers asked for, but the model has 2"):
        fit_probe.main(fit_probe.Arguments(**given, pairs=[pairs[0]], layers=[5]))
    write_table(tmp_path / "few.parquet", pairs[1][:5], PAIRS)
    with pytest.raises(InputError, match="5 pairs are too few"):
        fit_probe.main(fit_probe.Arguments(**given, pairs=[str(tmp_path / "few.parquet")]))
    assert not (tmp_path / "out").exists()
