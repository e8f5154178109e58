"""A response depends on its seed, prompt and number; not on batch or shard."""

import numpy as np
import pytest
import torch
from conftest import sentence

from hps.data import chat
from hps.generation.engine import Request, Sampling, generate, read_response
from hps.generation.transformers_engine import TransformersEngine, _SeededDraw, uniforms
from hps.models.sources import load_causal, load_tokenizer
from hps.support.errors import InputError


@pytest.fixture(scope="module")
def loaded(model_folder):
    return load_causal(model_folder, dtype=torch.float64), load_tokenizer(model_folder)


def requests(tokenizer, count: int) -> list[Request]:
    messages = [[{"role": "user", "content": sentence(i, 3 + 2 * i)}] for i in range(count)]
    return [Request(f"prompt-{i}", chat.prompt_ids(tokenizer, m)) for i, m in enumerate(messages)]


def sample(loaded, asked, batch_sequences, **changes):
    model, tokenizer = loaded
    sampling = Sampling(**{"n": 6, "temperature": 0.9, "top_p": 1.0, "max_new_tokens": 12, "seed": 5} | changes)
    batches = generate(TransformersEngine(model, batch_sequences), tokenizer, asked, sampling)
    return {request.prompt_id: responses for batch in batches for request, responses in batch}


def test_batch_size_and_shard_do_not_change_a_response(loaded):
    asked = requests(loaded[1], 4)
    together = sample(loaded, asked, 1000)
    assert sample(loaded, asked, 4) == together
    assert sample(loaded, asked[2:], 1000) == {r.prompt_id: together[r.prompt_id] for r in asked[2:]}
    assert len({r.text for responses in together.values() for r in responses}) > 12


def test_the_first_responses_do_not_depend_on_how_many_there_are(loaded):
    asked = requests(loaded[1], 2)
    few, many = sample(loaded, asked, 1000, n=2), sample(loaded, asked, 1000, n=6)
    assert {key: responses[:2] for key, responses in many.items()} == few


def test_another_seed_gives_other_responses(loaded):
    asked = requests(loaded[1], 1)
    assert sample(loaded, asked, 1000) != sample(loaded, asked, 1000, seed=6)


def test_draws_follow_the_distribution():
    scores = torch.tensor([0.5, 0.3, 0.0, 0.2]).log().repeat(4000, 1)
    numbers = np.stack([np.random.default_rng(i).random(1) for i in range(4000)])
    drawn = _SeededDraw(torch.from_numpy(numbers), 3)(torch.zeros(4000, 3, dtype=torch.long), scores).argmax(-1)
    frequencies = torch.bincount(drawn, minlength=4) / 4000
    assert frequencies.tolist() == pytest.approx([0.5, 0.3, 0.0, 0.2], abs=0.03)
    assert frequencies[2] == 0


def test_a_draw_at_the_edge_stays_inside_the_vocabulary():
    draw = _SeededDraw(torch.tensor([[1 - 2**-53], [0.0]], dtype=torch.float64), 1)
    chosen = draw(torch.zeros(2, 1, dtype=torch.long), torch.tensor([[0.0, 0.0, -torch.inf]]).repeat(2, 1)).argmax(-1)
    assert chosen.tolist() == [1, 0]


def test_top_p_keeps_to_the_nucleus(loaded):
    """With a nucleus that holds one token, sampling is greedy whatever the seed."""
    asked = requests(loaded[1], 1)
    greedy = sample(loaded, asked, 1000, top_p=1e-6)["prompt-0"]
    assert {r.text for r in greedy} == {greedy[0].text}
    assert sample(loaded, asked, 1000, top_p=1e-6, seed=9)["prompt-0"] == greedy


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_no_number_is_refused_where_a_token_is_drawn(model_folder, value):
    model, tokenizer = load_causal(model_folder, dtype=torch.float32), load_tokenizer(model_folder)
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 3] = value
    with pytest.raises(InputError, match=f"^{model_folder}: its logits are not finite"):
        sample((model, tokenizer), requests(tokenizer, 1), 8)


def test_a_temperature_that_lets_logits_overflow_is_refused(model_folder):
    loaded = load_causal(model_folder, dtype=torch.float32), load_tokenizer(model_folder)
    with pytest.raises(InputError, match=r"^temperature: 1e-40 is too small for the logits of .*: they overflow"):
        sample(loaded, requests(loaded[1], 1), 8, temperature=1e-40)


def test_seeds_are_of_the_prompt_and_number():
    sampling = Sampling(n=3, temperature=1, top_p=1, max_new_tokens=4, seed=0)
    numbers = uniforms(Request("a", [1]), sampling)
    assert numbers.shape == (3, 4)
    assert np.array_equal(numbers, uniforms(Request("a", [9, 9]), sampling))
    assert not np.array_equal(numbers, uniforms(Request("b", [1]), sampling))
    assert len(np.unique(numbers)) == 12


@pytest.mark.parametrize(
    ("text", "ended", "status"), [("open the door", True, "ok"), ("", True, "empty"), ("open the", False, "truncated")]
)
def test_how_a_response_ended(loaded, text, ended, status):
    tokenizer = loaded[1]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    after = [tokenizer.eos_token_id, 7, 7] if ended else []
    response = read_response(tokenizer, ids + after)
    assert (response.text, response.status, response.tokens) == (text, status, len(ids) + ended)


def test_more_tokens_than_positions_are_refused_before_anything_is_drawn(loaded):
    model, tokenizer = loaded
    limit = model.config.max_position_embeddings
    prompts = [Request("short", [5, 6]), Request("long", [7] * (limit - 9))]
    engine, end = TransformersEngine(model, 2), chat.end_of_turn(tokenizer)
    sampling = Sampling(n=1, temperature=1.0, top_p=1.0, max_new_tokens=10, seed=0)
    with pytest.raises(InputError, match=f"{limit + 1} tokens, but the model has {limit} positions"):
        next(engine.sample(prompts, sampling, end))
