"""The shared computation gives what the plain one gives: log-probs and gradients, in every batch composition."""

import random

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hps.logprobs import Group, SequenceScorer


def llama(dtype=torch.float64, tied=False) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
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


def gradient(model) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters()])


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


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
@pytest.mark.parametrize("batch_tokens", [10**6, 40], ids=["one pass", "two passes"])
def test_gradients_equal_the_plain_path(dtype, tolerance, tied, batch_tokens):
    model, groups = llama(dtype, tied), ragged_groups(2, 3, 17)
    weights = torch.linspace(-1, 1, 22, dtype=dtype)

    def loss(log_probs):
        return (log_probs * weights).sum() + log_probs.square().mean()

    scorer = SequenceScorer(model, batch_tokens)
    values = scorer.backward(groups, loss)
    shared = gradient(model)
    model.zero_grad()
    plain = scorer.log_probs_unshared(groups)
    loss(plain).backward()
    assert torch.allclose(values, plain, rtol=tolerance, atol=tolerance)
    assert (shared - gradient(model)).norm() <= tolerance * gradient(model).norm()


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
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(llama(), LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    group = Group([3, 5, 7, 11], [[13], [17]])
    gradients = []
    for batch_tokens in (10**6, 4):
        model.zero_grad()
        SequenceScorer(model, batch_tokens).backward([group], lambda lp: lp[0] - lp[1])
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    assert gradients[0].norm() > 1e-4
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-6, atol=1e-12)


def test_batches_stay_within_the_token_budget_and_lose_nothing():
    scorer, groups = SequenceScorer(llama(), 64), ragged_groups(1, 30, 4, 9)
    batches = list(scorer.batches(groups))
    for batch in batches:
        assert len(batch) == 1 or scorer.cost([piece for _, piece in batch]) <= 64
    for position, group in enumerate(groups):
        pieces = [piece.responses for batch in batches for p, piece in batch if p == position]
        assert [response for piece in pieces for response in piece] == group.responses


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
