"""The shared computation gives what the plain one gives: log-probs and gradients, in every batch composition."""

import random

import pytest
import torch
from memory import peak_bytes
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from hps.logprobs.recompute import recompute_layers
from hps.logprobs.scorer import Group, SequenceScorer
from hps.support.errors import InputError


def llama(dtype=torch.float64, tied=False, layers=3) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    return LlamaForCausalLM(config).to(dtype).eval()


def ragged_groups(*sizes: int) -> list[Group]:
    draw = random.Random(1)

    def tokens(longest: int) -> list[int]:
        return [draw.randrange(61) for _ in range(draw.randint(1, longest))]

    return [Group(tokens(12), [tokens(9) for _ in range(n)]) for n in sizes]


def with_adapter(model):
    """LoRA as the protocols have it, in the model's precision, and not at its start, where half of it is zero."""
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return get_peft_model(model, config, autocast_adapter_dtype=False)


def gradient(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def by_definition(model, group: Group) -> list[float]:
    """log pi(y | x) token by token from the full model's logits."""
    values = []
    for response in group.responses:
        logits = model(torch.tensor([group.prompt + response])).logits[0].log_softmax(-1)
        at = len(group.prompt) - 1
        values.append(sum(logits[at + t, token].item() for t, token in enumerate(response)))
    return values


@pytest.mark.parametrize("batch_tokens", [10**6, 60, 7])
def test_scores_are_sums_of_the_models_own_log_probs(batch_tokens):
    model, groups = llama(), ragged_groups(2, 3, 17)
    with torch.no_grad():
        expected = [by_definition(model, group) for group in groups]
    scored = SequenceScorer(model, batch_tokens).score(groups)
    assert [len(values) for values in scored] == [2, 3, 17]
    for mine, theirs in zip(scored, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)


PRECISIONS = [(torch.float64, 1e-6), (torch.float32, 1e-4)]


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS, ids=["float64", "float32"])
@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("batch_tokens", [10**6, 60], ids=["one pass", "two passes"])
def test_log_probs_and_gradients_equal_the_plain_path(dtype, tolerance, tied, adapter, recompute, batch_tokens):
    """Ragged prompts and responses, groups of 2, 3 and 17; relative errors of all log-probs and of the gradient."""
    model, groups = llama(dtype, tied), ragged_groups(2, 3, 17)
    if adapter:
        model = with_adapter(model)
    weights = torch.linspace(-1, 1, 22, dtype=dtype)

    def loss(log_probs):
        return (log_probs * weights).sum() + log_probs.square().mean()

    plain = SequenceScorer(model, batch_tokens).log_probs_unshared(groups)
    loss(plain).backward()
    expected = gradient(model)
    model.zero_grad()
    if recompute:
        recompute_layers(model)
    values = SequenceScorer(model, batch_tokens).backward(groups, loss)
    assert values.dtype == dtype
    assert (values - plain).norm() <= tolerance * plain.norm()
    assert expected.norm() > 0.1
    assert (gradient(model) - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("n", [2, 3, 17])
@pytest.mark.parametrize("batch_tokens", [10**6, 40], ids=["one pass", "two passes"])
def test_each_groups_gradient_equals_the_plain_path(n, batch_tokens):
    model, groups = with_adapter(llama()), ragged_groups(n)
    scorer = SequenceScorer(model, batch_tokens)
    scorer.log_probs_unshared(groups).logsumexp(0).backward()
    expected = gradient(model)
    model.zero_grad()
    scorer.backward(groups, lambda log_probs: log_probs.logsumexp(0))
    assert (gradient(model) - expected).norm() <= 1e-6 * expected.norm()


@pytest.mark.parametrize("batch_tokens", [10**6, 60], ids=["one pass", "two passes"])
def test_recomputed_activations_change_nothing(batch_tokens):
    """The same operations on the same numbers, so not a bit: a layer that wrote its keys twice would differ."""
    groups, found = ragged_groups(4, 6), []
    for recompute in (False, True):
        model = with_adapter(llama(torch.float32))
        if recompute:
            recompute_layers(model)
        values = SequenceScorer(model, batch_tokens).backward(groups, lambda log_probs: log_probs.logsumexp(0))
        found.append((values, gradient(model)))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def long_groups(prompts: int, n: int, prompt: int = 40, response: int = 20) -> list[Group]:
    draw = random.Random(2)

    def tokens(length: int) -> list[int]:
        return [draw.randrange(61) for _ in range(length)]

    return [Group(tokens(prompt), [tokens(response) for _ in range(n)]) for _ in range(prompts)]


def step_peak(model, groups: list[Group], batch_tokens: int) -> int:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    scorer = SequenceScorer(model, batch_tokens)
    return peak_bytes(lambda: scorer.backward(groups, lambda log_probs: log_probs.logsumexp(0)))


@pytest.mark.parametrize("n", [2, 17])
def test_recomputing_activations_takes_less_than_half_of_the_memory(n):
    model = llama(torch.float32, layers=6)
    kept = step_peak(model, long_groups(4, n), 500)
    recompute_layers(model)
    assert step_peak(model, long_groups(4, n), 500) < kept / 2


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("prompt", [10, 40, 120])
def test_a_hundred_responses_take_the_memory_of_pairs(recompute, prompt):
    """PL at n = 100 against BT, each in batches that fill the same budget: at most 1.25 times the bytes, exact."""
    model, budget = llama(torch.float32, layers=6), 1000
    if recompute:
        recompute_layers(model)
    scorer = SequenceScorer(model, budget)
    pairs = next(scorer.packed(long_groups(20, 2, prompt), lambda group: group))
    assert scorer.group_cost(pairs) > 0.6 * budget
    listwise = long_groups(1, 100, prompt)
    assert scorer.group_cost(listwise) > 2 * budget
    assert step_peak(model, listwise, budget) <= 1.25 * step_peak(model, pairs, budget)


def test_a_decoder_without_a_list_of_layers_is_refused():
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(vocab_size=7, n_embd=4, n_layer=1, n_head=1))
    with pytest.raises(InputError, match=r"compute.activation_checkpointing: GPT2LMHeadModel does not list its layers"):
        recompute_layers(model)


def test_two_passes_equal_one_pass():
    model, groups = llama(), ragged_groups(5, 40)

    def loss(log_probs):
        return log_probs.logsumexp(0) + log_probs.square().mean()

    gradients = []
    for batch_tokens in (10**6, 50):
        model.zero_grad()
        SequenceScorer(model, batch_tokens).backward(groups, loss)
        gradients.append(gradient(model))
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[0].norm()


def test_gradient_reaches_adapters_through_the_prompt():
    """Responses of one token use the prompt's last hidden state only: all of the gradient goes through the prompt."""
    model = with_adapter(llama())
    group = Group([3, 5, 7, 11], [[13], [17]])
    gradients = []
    for batch_tokens in (10**6, 4):
        model.zero_grad()
        SequenceScorer(model, batch_tokens).backward([group], lambda lp: lp[0] - lp[1])
        gradients.append(gradient(model))
    assert gradients[0].norm() > 1e-4
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-6, atol=1e-12)


def test_batches_stay_within_the_token_budget_and_lose_nothing():
    scorer, groups = SequenceScorer(llama(), 64), ragged_groups(1, 30, 2, 1, 4, 1, 9)
    batches = list(scorer.packed(groups, lambda group: group))
    assert [group for batch in batches for group in batch] == groups
    assert len(batches) < len(groups)
    for batch in batches:
        assert len(batch) == 1 or scorer.group_cost(batch) <= 64


def test_a_model_with_a_sliding_window_takes_the_plain_path(caplog):
    from transformers import MistralConfig, MistralForCausalLM

    caplog.set_level("INFO")
    config = MistralConfig(
        vocab_size=61,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        sliding_window=4,
    )
    model, groups = MistralForCausalLM(config).double().eval(), ragged_groups(3, 2)
    scorer = SequenceScorer(model, 10**6)
    assert not scorer.shares_prompts
    assert "each response is computed with its prompt" in caplog.text
    with torch.no_grad():
        expected = [by_definition(model, group) for group in groups]
    for mine, theirs in zip(scorer.score(groups), expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-6)
