"""Bradley-Terry training: the loss, exact gradients in parts, repeatability, adapters and their merging."""

import math
import random

import pytest
import torch
from conftest import sentence

from hps.data import chat
from hps.logprobs import batches
from hps.models import reward_training, sources
from hps.models.reward_model import RewardModel, conversation_ids, last_token_scores


def _pairs(tokenizer, count, seed=0):
    """Replies that mention plum are preferred."""
    rng = random.Random(seed)
    pairs = []
    for _ in range(count):
        messages = [{"role": "user", "content": sentence(rng.randrange(1000), rng.randint(1, 6))}]
        before = sentence(rng.randrange(1000), rng.randint(0, 4))
        pairs.append(tuple(conversation_ids(tokenizer, messages, f"{before} {w}", 512)[0] for w in ("plum", "door")))
    return pairs


@pytest.fixture(scope="module")
def tokenizer(model_folder):
    return sources.load_tokenizer(model_folder)


def test_loss_by_hand():
    loss = reward_training.bradley_terry_loss(torch.tensor([1.0, 0.0, -800.0]), torch.tensor([0.0, 0.0, 0.0]))
    assert loss.tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(2), 800.0])


def test_seed_decides_the_head(model_folder):
    heads = [reward_training.new_reward_model(model_folder, "float32", seed).score.weight for seed in (0, 0, 1)]
    assert heads[0].shape == (1, 32)
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


@pytest.mark.parametrize("rank", [0, 4])
def test_training_learns_what_is_preferred(model_folder, tokenizer, rank):
    model = reward_training.new_reward_model(model_folder, "float32", 0)
    model = reward_training.with_adapters(model, rank, 0, 0) if rank else model
    options = {"epochs": 6, "learning_rate": 1e-2, "batch_size": 8, "batch_tokens": 4096, "seed": 0}
    loss = reward_training.train(model, _pairs(tokenizer, 64), **options)
    assert loss < 0.3
    scorer = RewardModel(reward_training.merged(model, torch.float32) if rank else model, tokenizer, 512)
    asked = [{"role": "user", "content": sentence(7, 3)}]
    liked, disliked = scorer.score([(asked, "take a plum"), (asked, "take a door")])
    assert liked > disliked


def test_training_repeats_itself_and_follows_the_seed(model_folder, tokenizer):
    def trained(seed):
        model = reward_training.new_reward_model(model_folder, "float32", 0)
        reward_training.train(
            model, _pairs(tokenizer, 20), epochs=1, learning_rate=1e-3, batch_size=4, batch_tokens=4096, seed=seed
        )
        return model.state_dict()

    first, again, other = trained(0), trained(0), trained(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_gradient_of_the_mean_loss_in_parts_of_any_size(model_folder, tokenizer):
    pairs = _pairs(tokenizer, 8)
    expected = reward_training.new_reward_model(model_folder, "float32", 0)
    alone = [last_token_scores(expected, *batches.pad([ids])) for pair in pairs for ids in pair]
    losses = [-torch.log(torch.sigmoid(alone[i] - alone[i + 1])) for i in range(0, 16, 2)]
    (sum(losses) / 8).backward()
    for batch_tokens in (1, 200, 10**6):
        model = reward_training.new_reward_model(model_folder, "float32", 0)
        seen = []
        total = reward_training.accumulate_gradient(model, pairs, batch_tokens, seen.append)
        assert total == pytest.approx(sum(loss.item() for loss in losses), rel=1e-5)
        assert sum(seen) == 8
        assert (len(seen) == 8) is (batch_tokens == 1)
        for own, theirs in zip(model.parameters(), expected.parameters(), strict=True):
            assert torch.allclose(own.grad, theirs.grad, rtol=1e-3, atol=1e-6)


def test_adapters_sit_in_the_upper_layers_and_are_float32(model_folder):
    model = reward_training.new_reward_model(model_folder, "bfloat16", 0)
    model = reward_training.with_adapters(model, 2, 1, 0)
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert all(p.dtype == torch.float32 for p in trainable.values())
    adapters = [name for name in trainable if "lora" in name]
    assert len(adapters) == 4  # A and B of q_proj and v_proj
    assert all("layers.1." in name for name in adapters)
    assert [name for name in trainable if "lora" not in name] == [
        "base_model.model.score.modules_to_save.default.weight"
    ]


def test_merging_changes_no_score(model_folder, tokenizer):
    model = reward_training.with_adapters(reward_training.new_reward_model(model_folder, "float32", 0), 4, 0, 0)
    reward_training.train(
        model, _pairs(tokenizer, 16), epochs=1, learning_rate=1e-2, batch_size=4, batch_tokens=4096, seed=0
    )
    ids, mask = batches.pad([conversation for pair in _pairs(tokenizer, 3, seed=9) for conversation in pair])
    with torch.no_grad():
        before = last_token_scores(model.get_base_model(), ids, mask)
        untrained = reward_training.new_reward_model(model_folder, "float32", 0).eval()
        whole = reward_training.merged(model, torch.float32)
        assert torch.allclose(last_token_scores(whole, ids, mask), before, atol=1e-5)
        assert not torch.allclose(last_token_scores(untrained, ids, mask), before, atol=1e-2)
    assert not any("lora" in name for name in whole.state_dict())


def test_wilson_interval_by_hand():
    # n = 10, p = 0.5, z = 2: centre 0.5, half-width 2 sqrt(0.025 + 0.01) / 1.4 = 0.26726
    assert reward_training.wilson_interval(5, 10, z=2) == pytest.approx((0.5 - 0.26726, 0.5 + 0.26726), abs=1e-5)
    low, high = reward_training.wilson_interval(10, 10)
    assert high == 1
    assert 0.69 < low < 0.73


def test_accuracy_has_the_interval_of_independent_prompts():
    apart = reward_training.accuracy([True, True, True, False], list("abcd"))
    assert (apart["held_out_accuracy"], apart["held_out_pairs"]) == (0.75, 4)
    interval = [apart["held_out_accuracy_lo"], apart["held_out_accuracy_hi"]]
    assert interval == pytest.approx(reward_training.wilson_interval(3, 4))
    # Where both responses of a prompt are right or wrong together, they count as one.
    twice = reward_training.accuracy([True, True, True, False] * 2, list("abcdabcd"), "responses")
    assert twice["held_out_responses"] == 8
    assert [twice["held_out_accuracy_lo"], twice["held_out_accuracy_hi"]] == pytest.approx(interval)
    for right in (True, False):
        same = reward_training.accuracy([right] * 5, list("aabbc"))
        assert 0 <= same["held_out_accuracy_lo"] <= same["held_out_accuracy_hi"] <= 1


def test_chat_rendering_is_the_shared_one(tokenizer):
    messages = [{"role": "user", "content": "go"}]
    ids, _ = conversation_ids(tokenizer, messages, "home", 100)
    assert ids == chat.prompt_ids(tokenizer, messages) + chat.response_ids(tokenizer, "home")
