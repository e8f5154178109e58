"""The tokenizer and the small language model that the workflow builds from nothing."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import TemplateError

from hps.data import chat
from hps.models import scratch
from hps.models.shape import Shape
from hps.models.sources import load_tokenizer, parameters

TEXTS = ["how do i bake plum bread", "mix the flour with water then wait", "please open my old door"]
SMALL = Shape(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64)


@pytest.fixture(scope="module")
def tokenizer():
    return scratch.build_tokenizer(TEXTS * 5, 300)


def test_markers_are_tokens_of_their_own_and_padding_is_none_of_the_others(tokenizer):
    markers = [tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, "<|system|>", "<|user|>", "<|assistant|>"]
    ids = [tokenizer(marker, add_special_tokens=False)["input_ids"] for marker in markers]
    assert sorted(ids) == [[i] for i in range(6)]
    assert len(tokenizer) == 300


def test_template_by_hand(tokenizer):
    messages = [
        {"role": "system", "content": "be kind"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yes?"},
        {"role": "user", "content": "wait"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|begin|><|system|>be kind<|end|><|user|>hi<|end|><|assistant|>yes?<|end|><|user|>wait<|end|><|assistant|>"
    )


def test_template_refuses_a_role_it_has_no_marker_for(tokenizer):
    with pytest.raises(TemplateError, match="unknown role tool"):
        tokenizer.apply_chat_template([{"role": "tool", "content": "x"}], tokenize=False)


@given(st.text(max_size=30), st.text(max_size=30))
def test_prompt_and_response_are_the_template_of_the_whole(tokenizer, question, answer):
    messages = [{"role": "user", "content": question}]
    ids = chat.prompt_ids(tokenizer, messages) + chat.response_ids(tokenizer, answer)
    whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], tokenize=False)
    assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id


@given(st.text(max_size=40))
def test_any_text_survives(tokenizer, text):
    assert tokenizer.decode(chat.response_ids(tokenizer, text)[:-1]) == text


def test_tokenizer_is_the_same_after_saving(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    messages = [{"role": "user", "content": "how do i wait"}]
    assert chat.prompt_ids(loaded, messages) == chat.prompt_ids(tokenizer, messages)
    assert loaded.special_tokens_map == tokenizer.special_tokens_map


def test_vocabulary_too_small_for_the_bytes():
    with pytest.raises(ValueError, match="262"):
        scratch.build_tokenizer(TEXTS, 200)


def test_default_shape_has_the_parameters_of_its_arithmetic():
    tokenizer = scratch.build_tokenizer(TEXTS, 262)
    # embedding, tied; a layer: q and o, k and v at half width, three feed-forward matrices, two norms; the last norm
    layer = 2 * 128 * 128 + 2 * 128 * 64 + 3 * 128 * 384 + 2 * 128
    assert parameters(scratch.new_llama(tokenizer, Shape(), 0)) == 262 * 128 + 4 * layer + 128


def test_conversations_of_both_replies_or_the_chosen_one(tokenizer):
    row = {"messages": [{"role": "user", "content": "hi"}], "chosen": "go", "rejected": "wait"}
    both = scratch.conversations([row], tokenizer, "both")
    prompt = chat.prompt_ids(tokenizer, row["messages"])
    assert both == [prompt + chat.response_ids(tokenizer, text) for text in ("go", "wait")]
    assert scratch.conversations([row], tokenizer, "chosen") == both[:1]


def test_token_losses_are_those_of_each_sequence_alone(tokenizer):
    model = scratch.new_llama(tokenizer, SMALL, seed=0)
    sequences = [[0, 9, 8, 7, 6, 1], [0, 5, 1], [0, 30, 31, 32, 1]]
    losses = scratch.token_losses(model, sequences)
    alone = [model(torch.tensor([s]), labels=torch.tensor([s])).loss * (len(s) - 1) for s in sequences]
    assert losses.shape == (5 + 2 + 4,)
    assert losses.sum().item() == pytest.approx(sum(loss.item() for loss in alone), rel=1e-5)


def _pretrained(tokenizer, seed):
    sequences = [chat.response_ids(tokenizer, text) for text in TEXTS for _ in range(8)]
    model = scratch.new_llama(tokenizer, SMALL, seed)
    before = scratch.held_out_loss(model, sequences, 64)
    last = scratch.pretrain(model, sequences, epochs=6, learning_rate=1e-2, batch_tokens=64, seed=seed)
    return model, before, last, scratch.held_out_loss(model, sequences, 512)


def test_pretraining_learns_and_repeats_itself(tokenizer):
    model, before, last_epoch, after = _pretrained(tokenizer, seed=0)
    assert before > 0.9 * math.log(300)  # it knows nothing yet
    assert after < last_epoch < 0.5 * before
    again = _pretrained(tokenizer, seed=0)[0].state_dict()
    other = _pretrained(tokenizer, seed=1)[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert not torch.equal(model.state_dict()["model.norm.weight"], other["model.norm.weight"])


def test_where_adapters_can_go_is_known_before_there_is_a_model(tokenizer):
    model = scratch.new_llama(tokenizer, SMALL, 0)
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    assert sorted(linear) == sorted([*SMALL.linear_layers, "lm_head"])
