"""In a row of prompts and what follows them, a token attends to its prompt and to its own sequence, and no further."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaAttention

from hps.logprobs import attention
from hps.logprobs.attention import NO_MASK, attend, layout

HEADS, KEY_HEADS, SIZE = 4, 2, 8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def module():
    config = LlamaConfig(hidden_size=32, num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS)
    return LlamaAttention(config, layer_idx=0).eval()


def states(tokens: int):
    generator = torch.Generator().manual_seed(tokens)

    def random(heads: int) -> torch.Tensor:
        # As transformers lays them out: tokens outside, heads inside.
        return torch.randn(1, tokens, heads, SIZE, generator=generator, dtype=torch.float64).transpose(1, 2)

    return random(HEADS), random(KEY_HEADS), random(KEY_HEADS)


def sees(prompts: list[int], rows: list[int], following: list[int]) -> torch.Tensor:
    """(T, T) bool by definition: the sequence that a token belongs to, token by token."""
    sequence = [(row, None, at) for row, length in enumerate(prompts) for at in range(length)]
    sequence += [(rows[i], i, at) for i, length in enumerate(following) for at in range(length)]

    def one(query, key) -> bool:
        (row, own, at), (key_row, key_own, key_at) = query, key
        if row != key_row:
            return False
        return key_at <= at if own == key_own else key_own is None

    return torch.tensor([[one(query, key) for key in sequence] for query in sequence])


ROWS = st.lists(st.integers(1, 9), min_size=1, max_size=4).flatmap(
    lambda prompts: st.tuples(
        st.just(prompts),
        st.lists(st.tuples(st.integers(0, len(prompts) - 1), st.integers(1, 7)), min_size=1, max_size=9),
    )
)


@settings(deadline=None)
@given(ROWS, st.sampled_from([1, 8, 100]), st.sampled_from([0, 40, 10**6]), st.booleans())
def test_each_token_attends_as_it_would_alone(module, row, block, call, continued):
    prompts, after = row
    rows, following = [number for number, _ in after], [length for _, length in after]
    query, key, value = states(sum(prompts) + sum(following))
    repeated = [states.repeat_interleave(HEADS // KEY_HEADS, dim=1) for states in (key, value)]
    expected = F.scaled_dot_product_attention(query, *repeated, attn_mask=sees(prompts, rows, following))
    before = sum(prompts) if continued else 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(attention.CALL_PAIRS, "cpu", call)
        where = layout(prompts, rows, following, block, CPU, prompts_are_keys=continued)
    output, _ = attend(module, query[:, :, before:], key, value, None, layout=where, scaling=SIZE**-0.5)
    assert torch.allclose(output.transpose(1, 2), expected[:, :, before:], rtol=1e-10, atol=1e-10)


def test_blocks_alike_go_to_attention_together_and_unlike_ones_apart():
    where = layout([50, 50, 700], [0, 1, 2], [10, 10, 10], 64, CPU)
    assert where.sizes == [(1, 700, 700), (2, 50, 50), (1, 10, 710), (2, 10, 60)]


def test_responses_share_a_copy_of_their_prompt_up_to_the_size_of_a_block():
    assert attention.copied_prompts([10] * 12, 64) == 2
    assert attention.copied_prompts([100, 100], 64) == 2
    assert layout([7], [0] * 12, [10] * 12, 64, CPU, prompts_are_keys=True).sizes == [(2, 60, 67)]


def test_a_model_that_loses_the_layout_is_told(module):
    query, key, value = states(5)
    with pytest.raises(RuntimeError, match="LlamaAttention was not given the layout"):
        attend(module, query, key, value, torch.ones(NO_MASK, dtype=torch.bool))


def test_without_a_layout_it_is_transformers_own(module):
    query, key, value = states(6)
    expected, _ = attention.sdpa_attention_forward(module, query, key, value, None, scaling=0.3)
    assert torch.equal(attend(module, query, key, value, None, scaling=0.3)[0], expected)
