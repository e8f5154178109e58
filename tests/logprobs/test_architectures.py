"""Tiny random models of many architectures: log-probs are those of the model's own `forward`, or it is refused."""

import logging

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GraniteConfig, GraniteForCausalLM

from hps.logprobs import halves
from hps.logprobs.scorer import Group, SequenceScorer
from hps.support.errors import InputError

VOCABULARY = 61
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2_SIZES = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
# What the model's name does not tell: factors on logits and states, windows, experts.
SHARES = {
    "arcee": {},
    "biogpt": {},
    "cohere": {"logit_scale": 0.25},
    "deepseek_v3": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 4,
        "v_head_dim": 8,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
        "num_key_value_heads": 4,
    },
    "gemma": {"head_dim": 8},
    "glm": {"head_dim": 8},
    "glm4": {"head_dim": 8},
    "gpt2": GPT2_SIZES,
    "gpt_bigcode": GPT2_SIZES,
    "gpt_neox": {},
    "granite": {"logits_scaling": 8.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "granitemoe": {"logits_scaling": 8.0, "num_local_experts": 4},
    "llama": {},
    "mistral": {"sliding_window": None},
    "mixtral": {"num_local_experts": 4},
    "nanochat": {},
    "olmo": {},
    "olmo2": {},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 16},
    "phi": {},
    "phi3": {},
    "qwen2": {},
    "qwen2_moe": {"num_experts": 4, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    "smollm3": {},
    "starcoder2": {},
}
"""Architectures that compute a prompt once for its responses."""
PLAIN = {
    "bloom": {"n_layer": 2, "n_head": 4},
    "cohere2": {"logit_scale": 0.25},
    "exaone4": {},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "ffn_hidden_size": 48, "alibi": False},
    "gemma2": {"head_dim": 8, "final_logit_softcapping": 2.0, "sliding_window": 4},
    "gemma3_text": {"head_dim": 8, "final_logit_softcapping": 2.0, "sliding_window": 4},
    "gptj": {"rotary_dim": 4} | GPT2_SIZES,
    "jamba": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "mamba": {},
    "mpt": {"d_model": 32, "n_layers": 2, "n_heads": 4},
    "nemotron": {},
    "olmo3": {},
    "stablelm": {},
}
"""Those that need the prompt with every response: windows, states, or another attention."""
GROUPS = [
    Group([3, 4, 5, 6, 7, 8, 9, 1, 2], [[10, 11, 12, 60], [1], [22, 21, 20, 19, 18, 17, 16]]),
    Group([50, 49, 48], [[7, 6], [5, 4, 3]]),
]


def tiny(name: str, **more):
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **SIZES | more)
    config.initializer_range = 0.2
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@torch.no_grad()
def own_log_probs(model) -> list[list[float]]:
    """By the definition, from the logits of the model's own forward."""
    found = []
    for group in GROUPS:
        values = []
        for response in group.responses:
            logits = model(torch.tensor([group.prompt + response]), use_cache=False).logits[0].double()
            places = range(len(group.prompt) - 1, len(group.prompt) - 1 + len(response))
            values.append(logits.log_softmax(-1)[places, response].sum().item())
        found.append(values)
    return found


@pytest.mark.parametrize("name", [*SHARES, *PLAIN])
def test_log_probs_are_those_of_the_models_own_forward(name):
    model = tiny(name, **(SHARES | PLAIN)[name])
    expected = own_log_probs(model)
    for batch_tokens in (10**6, 8):
        scorer = SequenceScorer(model, batch_tokens)
        assert scorer.shares_prompts == (name in SHARES)
        for mine, theirs in zip(scorer.score(GROUPS), expected, strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4, rel=0)


@pytest.mark.parametrize("trained", ["decoder", "all"])
@pytest.mark.parametrize("name", ["granite", "cohere", "gemma2"])
def test_the_gradient_goes_through_what_the_model_does_to_its_logits(name, trained):
    """Against automatic differentiation of the model's own logits; with a frozen head, and with one that is trained."""
    model = tiny(name, **(SHARES | PLAIN)[name], tie_word_embeddings=False)
    if trained == "decoder":
        model.get_output_embeddings().requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    group = GROUPS[0]
    total = 0.0
    for weight, response in zip((1.0, -2.0, 0.5), group.responses, strict=True):
        logits = model(torch.tensor([group.prompt + response]), use_cache=False).logits[0]
        places = range(len(group.prompt) - 1, len(group.prompt) - 1 + len(response))
        total = total + weight * logits.log_softmax(-1)[places, response].sum()
    expected = torch.autograd.grad(total, parameters)
    for batch_tokens in (10**6, 12):
        model.zero_grad()
        SequenceScorer(model, batch_tokens).backward([group], lambda lp: lp[0] - 2 * lp[1] + 0.5 * lp[2])
        for parameter, gradient in zip(parameters, expected, strict=True):
            assert (parameter.grad - gradient).norm() <= 1e-4 * gradient.norm() + 1e-6


def test_bfloat16_passes_the_check():
    for name in ("llama", "granite", "gemma2"):
        SequenceScorer(tiny(name, **(SHARES | PLAIN)[name]).bfloat16(), 100)


class HiddenStep(GraniteForCausalLM):
    """A model that does something to its logits only after it has seen which token comes last."""

    def forward(self, input_ids=None, **kwargs):
        output = super().forward(input_ids=input_ids, **kwargs)
        if input_ids is not None:
            output.logits = output.logits + input_ids.float().mean() * torch.arange(VOCABULARY)
        return output


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_architecture_that_does_something_else_is_refused_in_one_line(dtype):
    model = HiddenStep(GraniteConfig(**SIZES)).to(dtype).eval()
    model.name_or_path = "models/policy"
    with pytest.raises(
        InputError, match=r"models/policy: HiddenStep: .*\(a difference of .*\); .* cannot be used"
    ) as error:
        SequenceScorer(model, 100)
    assert "\n" not in str(error.value)


def test_a_model_whose_parts_cannot_be_told_apart_is_refused():
    with pytest.raises(InputError, match="Llama4ForCausalLM: its decoder and its output head are not parts"):
        SequenceScorer(tiny("llama4_text", num_local_experts=2, intermediate_size_mlp=48, head_dim=8), 100)


def test_a_decoder_that_cannot_share_prompts_says_so_and_computes_them_apart(caplog, monkeypatch):
    """A model that loses what separates the sequences of a row."""
    caplog.set_level(logging.INFO)
    model = tiny("llama")
    attention = type(model.model.layers[0].self_attn)
    forward = attention.forward
    monkeypatch.setattr(attention, "forward", lambda self, *args, layout=None, **more: forward(self, *args, **more))
    scorer = SequenceScorer(model, 100)
    assert not scorer.shares_prompts
    assert "each response is computed with its prompt" in caplog.text
    for mine, theirs in zip(scorer.score(GROUPS), own_log_probs(model), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4, rel=0)


def test_the_head_alone_is_used_where_the_model_adds_nothing():
    assert halves.OutputHead(tiny("llama")).is_product
    assert not halves.OutputHead(tiny("granite", logits_scaling=8.0)).is_product


@pytest.mark.parametrize("batch_tokens", [10**6, 8])
@pytest.mark.parametrize("name", ["llama", "falcon"])
def test_more_tokens_than_positions_are_refused(name, batch_tokens):
    model = tiny(name, **(SHARES | PLAIN)[name] | {"max_position_embeddings": 8})
    model.name_or_path = "models/policy"
    scorer = SequenceScorer(model, batch_tokens)
    assert scorer.score([Group([1, 2, 3, 4, 5], [[6, 7, 8]])])
    with pytest.raises(InputError, match=r"models/policy: \w+: .* 9 tokens, but the model has 8 positions"):
        scorer.score([Group([1, 2, 3, 4, 5], [[6, 7, 8, 9, 10]])])


def test_a_rotation_that_depends_on_the_longest_sequence_of_a_batch_limits_the_length():
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4}
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "original_max_position_embeddings": 8} | factors
    scorer = SequenceScorer(tiny("phi3", rope_parameters=rope, original_max_position_embeddings=8), 100)
    assert scorer.positions == 8
    with pytest.raises(InputError, match="8 positions"):
        scorer.score([Group([1, 2, 3, 4, 5], [[6, 7, 8, 9, 10]])])
