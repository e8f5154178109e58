"""Operation counts against counts by hand and by torch, and the data sheets' names."""

from contextlib import nullcontext

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from hps.logprobs.scorer import Group, SequenceScorer
from hps.planning.operations import (
    GPUS,
    LLAMA3_8B,
    SMOLLM2_135M,
    Architecture,
    Work,
    gpu_of,
    plain_work,
    sampling_work,
    shared_work,
)
from hps.support.errors import InputError

SMALL = Architecture(layers=3, hidden=32, heads=4, kv_heads=2, intermediate=48, vocab=61)


def llama(architecture: Architecture) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=architecture.vocab,
        hidden_size=architecture.hidden,
        intermediate_size=architecture.intermediate,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        tie_word_embeddings=architecture.tied,
        attn_implementation="eager",  # whose two products torch counts whole, the masked half too
    )
    return LlamaForCausalLM(config)


def test_parameters_are_those_of_the_models():
    assert SMALL.parameters == sum(p.numel() for p in llama(SMALL).parameters())
    assert SMOLLM2_135M.parameters == 134_515_008
    assert LLAMA3_8B.parameters == 8_030_261_248


def test_adapters_of_rank_8_on_queries_and_values():
    assert SMOLLM2_135M.lora_parameters(8, ["q_proj", "v_proj"]) == 460_800  # as the trainings of `smollm2` recorded
    with pytest.raises(InputError, match="lora_targets: 'embed'"):
        SMALL.lora_parameters(8, ["embed"])


def test_forward_by_hand():
    """One layer, two tokens: 2 x weights each; 1 + 2 positions, two products of 2 x 4 each; one row of logits."""
    one = Architecture(layers=1, hidden=4, heads=1, kv_heads=1, intermediate=8, vocab=10)
    assert one.layer_weights == 4 * 4 * 4 + 3 * 4 * 8
    assert one.forward_flops(Work(tokens=2, attended=3, counted=1)) == 2 * 2 * 160 + 3 * 16 + 2 * 40


def test_forward_and_training_as_torch_counts_them():
    model, ids = llama(SMALL), torch.zeros(1, 10, dtype=torch.long)
    work = Work(tokens=10, attended=10 * 10, counted=10)
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(input_ids=ids)
    assert counted.get_total_flops() == pytest.approx(SMALL.forward_flops(work), rel=0.01)
    with FlopCounterMode(display=False) as counted:
        model(input_ids=ids).logits.sum().backward()
    # torch's has no second computation of the logits
    own = SMALL.training_flops(work, full=True) - 2 * SMALL.head_weights * work.counted
    assert counted.get_total_flops() == pytest.approx(own, rel=0.01)


class _NoModules(nullcontext):
    """In place of torch's record of which module computes, which does not work within `torch.autograd.grad`."""

    parents = frozenset({"Global"})


def test_a_step_under_adapters_as_torch_counts_it():
    """A frozen head makes its logits once. Not counted by hand: adapters, and what ends below the first of them."""
    shape = Architecture(layers=12, hidden=256, heads=4, kv_heads=4, intermediate=512, vocab=2048)
    lora = LoraConfig(r=1, target_modules=["q_proj"], init_lora_weights=False)
    base = llama(shape)
    base.set_attn_implementation("sdpa")
    model = get_peft_model(base, lora)
    group = Group(list(range(30)), [list(range(20)), list(range(10))])
    scorer = SequenceScorer(model, 1000)  # before the count, since it checks itself with a few passes
    counted = FlopCounterMode(display=False)
    counted.mod_tracker = _NoModules()
    with counted:
        scorer.backward([group], lambda log_probs: log_probs[0] - log_probs[1])
    own = shape.training_flops(shared_work(30, [20, 10]))
    assert counted.get_total_flops() == pytest.approx(own, rel=0.05)


def test_frozen_weights_save_a_third_and_a_second_pass_costs_a_forward_pass():
    work = Work(tokens=7, attended=0, counted=0)
    assert SMALL.training_flops(work) == 2 * SMALL.forward_flops(work)
    assert SMALL.training_flops(work, full=True) == 3 * SMALL.forward_flops(work)
    assert SMALL.training_flops(work, forwards=2) == 3 * SMALL.forward_flops(work)


def test_work_of_a_group_by_hand():
    """Prompt of 3; responses of 2 and 3, whose last token is never fed: 1 and 2 tokens after 3."""
    assert shared_work(3, [2, 3]) == Work(3 + 3, (1 + 2 + 3) + 4 + (4 + 5), 5)
    assert plain_work(3, [2, 3]) == Work(4 + 5, (1 + 2 + 3 + 4) + (1 + 2 + 3 + 4 + 5), 5)
    assert plain_work(3, [2, 3], all_logits=True).counted == 9


def test_sharing_changes_nothing_for_one_response_and_less_is_never_computed_without_it():
    assert shared_work(11, [5]) == plain_work(11, [5])
    for n in (2, 10, 100):
        shared, plain = shared_work(126, [45] * n), plain_work(126, [45] * n)
        assert plain.tokens - shared.tokens == 126 * (n - 1)
        assert shared.counted == plain.counted


def test_sampling_by_hand():
    """One prompt of 4, two responses of 3 tokens."""
    assert sampling_work(4, 3, prompts=1, sequences=2) == Work(4 + 6, 10 + 2 * 3 * 5.5, 1 + 6)


@pytest.mark.parametrize(
    ("device", "known"),
    [("NVIDIA L40S", "L40S"), ("NVIDIA H100 80GB HBM3", "H100"), ("NVIDIA A100-SXM4-80GB", "A100"), ("L40", None)],
)
def test_a_gpu_is_known_by_its_whole_name(device, known):
    assert gpu_of(device) == known
    assert known is None or known in GPUS


def test_a_configuration_without_a_size_is_refused():
    with pytest.raises(InputError, match="has no hidden_size"):
        Architecture.from_config({"num_hidden_layers": 2})
