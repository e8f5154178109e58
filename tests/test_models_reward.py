"""Scores of a reward model: of the last real token, independent of the batch, in the given order."""

import shutil

import pytest
import torch
from conftest import sentence
from safetensors.torch import load_file, save_file

from hps import chat, files
from hps.errors import InputError
from hps.models import preference_training, sources
from hps.models.reward_model import RewardModel, conversation_ids

CONVERSATIONS = [
    ([{"role": "user", "content": sentence(i, 1 + 5 * (i % 7))}], sentence(i + 30, 1 + 3 * (i % 4))) for i in range(12)
]


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """A random reward model; its head is scaled up so that scores differ clearly."""
    model = preference_training.new_reward_model(model_folder, "float32", seed=1)
    model.score.weight.data.mul_(50)
    out = tmp_path_factory.mktemp("reward") / "reward"
    sources.save(out, model, sources.load_tokenizer(model_folder), {"role": "reward", "max_length": 100})
    return out


@pytest.fixture(scope="module")
def reward(folder):
    return RewardModel.load(folder, device="cpu")


def test_score_is_the_head_on_the_last_token_alone(folder, reward):
    messages, response = CONVERSATIONS[3]
    ids = chat.prompt_ids(reward.tokenizer, messages) + chat.response_ids(reward.tokenizer, response)
    hidden = sources.load_causal(folder, device="cpu").model(torch.tensor([ids])).last_hidden_state[0, -1]
    expected = hidden @ load_file(folder / "model.safetensors")["score.weight"][0]
    assert reward.score([(messages, response)]) == pytest.approx([expected.item()], abs=1e-5)


def test_score_does_not_depend_on_the_batch_and_keeps_the_order(reward):
    alone = [reward.score([conversation])[0] for conversation in CONVERSATIONS]
    assert max(alone) - min(alone) > 1
    assert reward.score(CONVERSATIONS) == pytest.approx(alone, abs=1e-4)
    assert reward.score(CONVERSATIONS, batch_tokens=150) == pytest.approx(alone, abs=1e-4)
    assert reward.score(CONVERSATIONS[::-1]) == pytest.approx(alone[::-1], abs=1e-4)


def test_final_eos_counts_also_where_it_is_the_pad_token(reward, monkeypatch):
    """transformers' own pooling would step back over it."""
    expected = reward.score(CONVERSATIONS[:3])
    monkeypatch.setattr(reward.model.config, "pad_token_id", reward.tokenizer.eos_token_id)
    assert reward.score(CONVERSATIONS[:3]) == expected


def test_nothing_to_score(reward):
    assert reward.score([]) == []


def test_truncation_takes_the_oldest_tokens_after_the_bos(reward):
    messages, response = [{"role": "user", "content": sentence(1, 30)}], "go home"
    whole, cut = conversation_ids(reward.tokenizer, messages, response, 1000)
    assert not cut
    short, cut = conversation_ids(reward.tokenizer, messages, response, 20)
    assert cut
    assert short == [whole[0], *whole[-19:]]
    assert conversation_ids(reward.tokenizer, messages, response, len(whole)) == (whole, False)


def test_truncations_are_counted_and_logged(folder, caplog):
    reward = RewardModel.load(folder, device="cpu", max_length=25)
    lengths = [len(conversation_ids(reward.tokenizer, *c, 10**6)[0]) for c in CONVERSATIONS]
    too_long = sum(length > 25 for length in lengths)
    assert 0 < too_long < len(lengths)
    reward.score(CONVERSATIONS)
    assert reward.truncated == too_long
    assert f"{too_long} of 12 conversations exceed 25 tokens" in caplog.text


def test_length_limit_is_the_one_of_its_training(folder, model_folder, tmp_path):
    assert RewardModel.load(folder, device="cpu").max_length == 100
    without = tmp_path / "without"
    shutil.copytree(folder, without)
    files.write_json(without / "model.json", {"role": "reward"})
    assert RewardModel.load(without, device="cpu").max_length == 512  # the model's own


def test_nan_names_the_prompt(folder):
    broken = RewardModel.load(folder, device="cpu")
    broken.model.score.weight.data[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"the score of conversation \d+, prompt '.+', is nan"):
        broken.score(CONVERSATIONS)


def test_a_model_without_a_head_is_refused(model_folder):
    with pytest.raises(InputError, match="not a reward model"):
        RewardModel.load(model_folder)


def test_a_head_of_several_objectives_counts_with_its_mean(folder, reward, tmp_path):
    """ArmoRM's layout: `regression_layer.weight` with a row for each objective, and weights that are not used here."""
    several = tmp_path / "several"
    shutil.copytree(folder, several)
    tensors = load_file(several / "model.safetensors")
    head = tensors.pop("score.weight")
    tensors["regression_layer.weight"] = torch.cat([head, 3 * head, -head])  # mean: head
    tensors["gating.layers.0.weight"] = torch.zeros(4, 4)
    save_file(tensors, several / "model.safetensors", {"format": "pt"})
    assert sources.reward_head(several) == 3
    scores = RewardModel.load(several, device="cpu").score(CONVERSATIONS)
    assert scores == pytest.approx(reward.score(CONVERSATIONS), abs=1e-4)


def test_bfloat16_weights_score_nearly_the_same_in_float32(folder, reward):
    half = RewardModel.load(folder, device="cpu", dtype=torch.bfloat16)
    assert half.model.model.embed_tokens.weight.dtype == torch.bfloat16
    assert half.model.score.weight.dtype == torch.float32
    exact = torch.tensor(reward.score(CONVERSATIONS))
    difference = (torch.tensor(half.score(CONVERSATIONS)) - exact).abs().max()
    assert difference < 0.1 * exact.std()
