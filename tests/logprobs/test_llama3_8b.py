"""Llama-3-8B's real shapes through every stage's model code: without weights, and two of its layers with random ones.

Without weights means meta tensors. Where code runs they are under FakeTensorMode, as transformers reads the values of
every attention mask but a fake one's.
"""

import itertools
import resource
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import train
from conftest import called, python_environment
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache, LlamaConfig

from hps.generation.transformers_engine import _SeededDraw
from hps.logprobs.scorer import Group, SequenceScorer
from hps.models import reward_heads, sources
from hps.models.reward_model import Encoded, RewardModel

VOCABULARY, HIDDEN, LAYERS = 128256, 4096, 32
PARAMETERS = 8_030_261_248
LORA = 32 * (8 * (4096 + 4096) + 8 * (4096 + 1024))  # rank 8: into and out of q_proj (4096 wide) and v_proj (1024)
GROUPS = [Group([5, 6, 7], [[1, 2], [3, 4, 5, 6]]), Group([5, 6, 7, 8, 9], [[1]])]


def config(layers: int = LAYERS, vocabulary: int = VOCABULARY, **more) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=HIDDEN,
        intermediate_size=14336,
        num_hidden_layers=layers,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=False,
        **more,
    )


def causal(**sizes) -> torch.nn.Module:
    return AutoModelForCausalLM.from_config(config(**sizes), dtype=torch.bfloat16, attn_implementation="sdpa").eval()


def with_adapter(model: torch.nn.Module) -> torch.nn.Module:
    """As `train.py` makes it, but for where the weights come from."""
    settings = {"adapter": "lora", "policy": "", "dtype": "bfloat16", "lora_rank": 8, "lora_alpha": 16}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "load_causal", lambda *_, **__: model)
        return train.trainable(SimpleNamespace(**settings, lora_targets=["q_proj", "v_proj"]), model.device, False)


@pytest.fixture
def policy():
    with torch.device("meta"):
        return causal()


@pytest.fixture
def fake():
    """Entered after the model is there, for code that computes with it."""
    return FakeTensorMode(allow_non_fake_inputs=True)


def test_parameters(policy):
    assert sources.parameters(policy) == PARAMETERS


def test_trained_parameters(policy):
    with torch.device("meta"):
        model = with_adapter(policy)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trained.values()) == LORA == 3_407_872
    assert len(trained) == 4 * LAYERS
    assert {p.dtype for p in trained.values()} == {torch.float32}
    assert {name.split(".")[-4] for name in trained} == {"q_proj", "v_proj"}


def test_log_probs(policy, fake):
    scorer = SequenceScorer(policy, 4096)
    assert scorer.shares_prompts
    with fake, torch.no_grad():
        state = scorer.encode_prompts([group.prompt for group in GROUPS])
        assert state.ends.shape == (2, HIDDEN)
        assert len(state.keys_values) == LAYERS
        prompt_tokens = sum(len(group.prompt) for group in GROUPS)
        assert {tensor.shape for pair in state.keys_values for tensor in pair} == {(1, 8, prompt_tokens, 128)}
        assert scorer.continued(state, [0, 1], [[1, 2], [3]]).shape == (2 + 1, HIDDEN)
        assert scorer.response_hidden(GROUPS).shape == (2 + 4 + 1, HIDDEN)
        log_probs = scorer.log_probs_unshared(GROUPS)
        assert (log_probs.shape, log_probs.dtype) == ((3,), torch.float32)


def test_the_gradient_reaches_every_adapter(policy, fake):
    with torch.device("meta"):
        model = with_adapter(policy)
    with fake:
        SequenceScorer(model, 4096).backward(GROUPS, torch.sum)
    gradients = [p.grad is not None and p.grad.shape == p.shape for p in model.parameters() if p.requires_grad]
    assert gradients == [True] * 4 * LAYERS
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


def test_rewards(fake):
    """ArmoRM's: 19 objectives, and a gate of four layers."""
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(
            config(num_labels=19), dtype=torch.bfloat16, attn_implementation="sdpa"
        )
        sizes = itertools.pairwise([HIDDEN, 1024, 1024, 1024, 19])
        layers = [(torch.empty(above, below), torch.empty(above)) for below, above in sizes]
        gate = reward_heads.Gate(layers, torch.empty(1), torch.empty(19, 19), 10.0)
    assert sources.parameters(model) == PARAMETERS - VOCABULARY * HIDDEN + 19 * HIDDEN
    reward = RewardModel(model, None, 4096, gate=gate)
    encoded = [Encoded((1, 2, 3), [4, 5]), Encoded((1, 2, 3), [6]), Encoded((7, 8), [9, 10, 11])]
    with fake, torch.no_grad():
        ((numbers, scores),) = reward._batches(encoded, 4096)
    assert sorted(numbers) == [0, 1, 2]
    assert (scores.shape, scores.dtype) == ((3,), torch.float32)


def test_a_step_of_generation(policy, fake):
    copies = 3
    cache = DynamicCache(config=policy.config)
    with fake, torch.no_grad(), torch.device("meta"):
        ids, mask = torch.ones(2, 6, dtype=torch.long), torch.ones(2, 6, dtype=torch.long)
        policy(input_ids=ids[:, :-1], attention_mask=mask[:, :-1], past_key_values=cache, logits_to_keep=1)
        cache.batch_repeat_interleave(copies)
        ids, mask = ids.repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0)
        logits = policy(input_ids=ids[:, -1:], attention_mask=mask, past_key_values=cache).logits
        assert logits.shape == (2 * copies, 1, VOCABULARY)
        assert cache.layers[-1].keys.shape == (2 * copies, 8, 6, 128)
        draw = _SeededDraw(torch.rand(2 * copies, 4, dtype=torch.float64), prompt_length=6)
        assert draw(ids, logits[:, -1]).shape == (2 * copies, VOCABULARY)


def test_two_layers_with_random_weights_train_a_step():
    """In a process of its own, whose peak of memory is its own."""
    code = "import test_llama3_8b; test_llama3_8b.train_two_layers()"
    done = called("-c", code, env=python_environment(PYTHONPATH=":".join(sys.path)))
    assert done.returncode == 0, done.stderr[-3000:]
    assert float(done.stdout.split()[-1]) < 2.0, "GiB at the peak"


def two_layers() -> torch.nn.Module:
    """4096 tokens of the vocabulary: embeddings and head of all of it would take 2 GiB by themselves. Each weight takes
    its random numbers from one stock, which repeats; drawing 470 million takes longer than the rest of the test.
    """
    from transformers.initialization import no_init_weights

    with no_init_weights():
        model = causal(layers=2, vocabulary=4096)
    stock = torch.randn(4_194_301, generator=torch.Generator().manual_seed(0)).mul_(0.02).bfloat16()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                for part in weight.view(-1).split(len(stock)):
                    part.copy_(stock[: len(part)])
    return model


def train_two_layers() -> None:
    """bfloat16 weights under a float32 adapter. Prints the peak of memory in GiB."""
    from accelerate import Accelerator

    from hps.method.objectives import Objective
    from hps.training.examples import Example, Responses
    from hps.training.trainer import Schedule, Trainer

    model = with_adapter(two_layers())
    groups = [Group([5, 6, 7, 8], [[1, 2, 3], [4, 9], [8, 3, 2]]), Group([11, 12], [[3, 4], [5, 6, 7], [2, 1]])]
    scorer = SequenceScorer(model, 4096)
    before = scorer.score(groups)
    examples = [
        Example(
            str(number),
            group.prompt,
            Responses.of(group.responses),
            np.array([0.0, 1.0, 2.0]),
            np.array(reference),
        )
        for number, (group, reference) in enumerate(zip(groups, before, strict=True))
    ]
    schedule = Schedule(
        epochs=1,
        concatenate_epochs=False,
        batch_size=2,
        learning_rate=1e-2,
        weight_decay=0.0,
        max_grad_norm=1.0,
        negative="drawn",
        gamma_levels=[-5, 5],
        gamma_follows="step",
        seed=0,
        checkpoint_every=10,
    )
    objective = Objective(parameterization="dpo", loss="hps", beta=0.1)
    trainer = Trainer(Accelerator(cpu=True), model, objective, examples, schedule, 4096)
    adapter = {name: p.detach().clone() for name, p in trainer.parameters.items()}
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    sums = {name: bit_sum(p) for name, p in frozen.items()}
    assert {p.dtype for p in adapter.values()} == {torch.float32}
    assert {p.dtype for p in frozen.values()} == {torch.bfloat16}

    row = trainer.step(0)

    assert row["grad_norm"] > 0
    assert row["margin"] == pytest.approx(0, abs=1e-3)
    after = scorer.score(groups)
    assert all(abs(a - b) > 1e-3 for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True))
    # At first only the half that starts at zero has a gradient.
    moved = {name for name, p in trainer.parameters.items() if not torch.equal(p, adapter[name])}
    assert moved == {name for name in adapter if "lora_B" in name}
    assert {name: bit_sum(p) for name, p in frozen.items()} == sums
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def bit_sum(weight: torch.Tensor) -> int:
    """A sum that any changed bit changes."""
    return int(weight.detach().view(torch.int16).sum(dtype=torch.int64))
