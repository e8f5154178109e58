"""Attention within one row of tokens that holds prompts and what follows each of them: none twice, no padding.

All that a decoder does token by token then runs on exactly the tokens that count. Only attention looks from one token
to another: here the row is cut into blocks that attend together, and each goes to transformers' own attention. A prompt
is a block, causal as ever. What follows a prompt is cut into blocks of a bounded size, whose queries see the prompt and
those tokens before them that belong to the same response.

The decoder is called with `layout=` and with `NO_MASK`; transformers hands both to the attention of every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hps.logprobs import packing

NAME = "hps_shared_prompts"
"""What transformers knows this attention by. Called without a layout, it is transformers' `sdpa`."""
NO_MASK = (1, 1, 1, 1)
"""Shape of the mask that goes with a layout: transformers passes four dimensions on as they are and makes none."""
CALL_PAIRS = {"cpu": 2**12, "cuda": 2**18}
"""What one call of attention more costs, by the kind of device, in pairs of tokens that the same time would compute.
On an H200 steps of Llama-3-8B's architecture took as long with a quarter and with four times of the value for GPUs."""


def block_tokens(hidden_size: int) -> int:
    """Tokens of a block of responses.

    A block computes, and masks, what its responses would see of one another. A decoder layer multiplies each token
    with about 12 hidden_size^2 weights, and a token with each of b others in 2 hidden_size: with b = 3/8 hidden_size
    that is a sixteenth of the layer's work at most.
    """
    return max(64, 3 * hidden_size // 8)


@dataclass(frozen=True)
class _Block:
    """Tokens of the row that attend together, as numpy arrays of places; `response` is 0 for the tokens of the prompt.

    `at` counts tokens from the start of the prompt, as far as causality goes; None for a block that is a prompt.
    """

    queries: np.ndarray
    keys: np.ndarray
    response: np.ndarray | None = None
    at: np.ndarray | None = None

    @property
    def size(self) -> tuple[int, int]:
        return len(self.queries), len(self.keys)


@dataclass(frozen=True)
class Layout:
    """Where the blocks of a row stand, on the device of the model.

    Blocks that are alike go to attention together, padded there: `sizes` has their number, queries and keys.
    """

    queries: torch.Tensor  # (all queries of all parts) places in the row, padding included
    keys: torch.Tensor  # the same for keys and values, whose row has the prompts in front
    sizes: list[tuple[int, int, int]]
    masks: list[torch.Tensor | None]  # (B, 1, queries, keys) bool each; None is causal
    back: torch.Tensor  # (T,) where the output of each token of the row stands among all queries


def layout(
    prompts: Sequence[int],
    rows: Sequence[int],
    following: Sequence[int],
    block: int,
    device: torch.device,
    prompts_are_keys: bool = False,
) -> Layout:
    """The layout of a row of prompts and then what follows them.

    Args:
        prompts: lengths of B prompts.
        rows: (R) which of the prompts each sequence follows.
        following: (R) lengths of those, none of them 0.
        block: tokens of a block of responses (`block_tokens`).
        prompts_are_keys: the prompts were computed before: the row holds what follows them, and only the keys and
            values have the prompts in front.
    """
    starts = np.cumsum([0, *prompts, *following])
    behind = int(starts[len(prompts)]) if prompts_are_keys else 0
    parts = []
    if not prompts_are_keys:
        own = [np.arange(start, start + length) for start, length in zip(starts, prompts, strict=False)]
        parts += _alike([_Block(places, places) for places in own], device)
    parts += _alike(_response_blocks(starts, prompts, rows, following, block), device)
    queries, keys, sizes, masks, real = [], [], [], [], []
    reached = 0
    for blocks in parts:
        q, k = (max(lengths) for lengths in zip(*(one.size for one in blocks), strict=True))
        queries.append(_filled([one.queries - behind for one in blocks], q, 0))
        keys.append(_filled([one.keys for one in blocks], k, 0))
        real += [(one.queries - behind, reached + number * q) for number, one in enumerate(blocks)]
        reached += len(blocks) * q
        sizes.append((len(blocks), q, k))
        masks.append(None if blocks[0].response is None else _mask(blocks, q, k, device))
    back = np.empty(sum(len(places) for places, _ in real), dtype=np.int64)
    for places, first in real:
        back[places] = np.arange(first, first + len(places))

    def there(arrays: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([array.ravel() for array in arrays])).to(device, non_blocking=True)

    return Layout(there(queries), there(keys), sizes, masks, there([back]))


def copied_prompts(following: Sequence[int], block: int) -> int:
    """How many blocks, each with a copy of the prompt's keys and values, hold sequences of these lengths."""
    return sum(1 for _ in _in_blocks(following, block))


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    layout: Layout | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """transformers' attention function: query (1, heads, T, size), key and value (1, key heads, K, size).

    Raises RuntimeError where a model has lost the layout on the way.
    """
    if layout is None:
        if attention_mask is not None and attention_mask.shape == NO_MASK and key.shape[2] > 1:
            raise RuntimeError(f"{type(module).__name__} was not given the layout that its decoder was called with")
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    size = query.shape[-1]
    queries, keys, values = (
        _taken(states, places) for states, places in ((query, layout.queries), (key, layout.keys), (value, layout.keys))
    )
    q_parts = queries.split([number * q for number, q, _ in layout.sizes])
    kv_sizes = [number * k for number, _, k in layout.sizes]
    outputs = []
    for (number, _, _), mask, *states in zip(
        layout.sizes, layout.masks, q_parts, keys.split(kv_sizes), values.split(kv_sizes), strict=True
    ):
        apart = [state.view(number, -1, state.shape[-1] // size, size).transpose(1, 2) for state in states]
        outputs.append(_attention(module, *apart, mask, **kwargs).flatten(2).flatten(0, 1))
    joined = F.embedding(layout.back, torch.cat(outputs))
    return joined.view(1, -1, query.shape[1], size), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs,
) -> torch.Tensor:
    """(B, queries, heads, size) of a part.

    On a CPU in float32 at least and without copies of the key heads: forward and backward pass take half of the time
    that they take in bfloat16 with such copies, which transformers makes wherever there is a mask, for GPUs' sake.
    """
    if query.device.type != "cpu":
        return sdpa_attention_forward(module, query, key, value, mask, scaling=scaling, dropout=dropout, **kwargs)[0]
    dtype = torch.promote_types(query.dtype, torch.float32)
    states = (state.to(dtype) for state in (query, key, value))
    output = F.scaled_dot_product_attention(
        *states, attn_mask=mask, dropout_p=dropout, is_causal=mask is None, scale=scaling, enable_gqa=True
    )
    return output.to(query.dtype).transpose(1, 2)


def _taken(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """(places, heads * size) of states (1, heads, T, size).

    As a lookup, whose backward pass adds whole tokens up, which is many times faster than that of indexing.
    """
    return F.embedding(places, states[0].transpose(0, 1).flatten(1))


def _in_blocks(lengths: Sequence[int], block: int):
    return packing.fill(range(len(lengths)), lambda chosen: sum(lengths[i] for i in chosen), block)


def _response_blocks(
    starts: np.ndarray, prompts: Sequence[int], rows: Sequence[int], following: Sequence[int], block: int
) -> list[_Block]:
    of: list[list[int]] = [[] for _ in prompts]
    for number, row in enumerate(rows):
        of[row].append(number)
    found = []
    for row, numbers in enumerate(of):
        for chosen in _in_blocks([following[number] for number in numbers], block):
            own = [numbers[i] for i in chosen]
            first = [starts[len(prompts) + number] for number in own]
            lengths = [following[number] for number in own]
            queries = np.concatenate([np.arange(s, s + length) for s, length in zip(first, lengths, strict=True)])
            found.append(
                _Block(
                    queries,
                    np.concatenate([np.arange(starts[row], starts[row] + prompts[row]), queries]),
                    np.repeat(np.arange(1, len(own) + 1), lengths),
                    np.concatenate([np.arange(length) for length in lengths]) + prompts[row],
                )
            )
    return found


def _alike(blocks: Sequence[_Block], device: torch.device) -> list[list[_Block]]:
    """Blocks that go to attention together: as long as the padding of one call costs less than another call."""
    call = CALL_PAIRS.get(device.type, CALL_PAIRS["cuda"])

    def padding(part: Sequence[_Block]) -> int:
        sizes = [one.size for one in part]
        queries, keys = (max(lengths) for lengths in zip(*sizes, strict=True))
        return len(part) * queries * keys - sum(q * k for q, k in sizes)

    return list(packing.fill(sorted(blocks, key=lambda one: one.size, reverse=True), padding, call))


def _filled(arrays: Sequence[np.ndarray], length: int, fill: int) -> np.ndarray:
    """(B, length) int64 of arrays that are no longer than that, filled up behind."""
    filled = np.full((len(arrays), length), fill, dtype=np.int64)
    for row, array in zip(filled, arrays, strict=True):
        row[: len(array)] = array
    return filled


def _mask(blocks: Sequence[_Block], q: int, k: int, device: torch.device) -> torch.Tensor:
    """(B, 1, q, k) bool, made on the device.

    A query that only fills up sees the prompt, so that no row is without a key.
    """

    def there(arrays: list[np.ndarray], length: int, fill: int) -> torch.Tensor:
        return torch.from_numpy(_filled(arrays, length, fill)).to(device, non_blocking=True)

    prompts = [len(one.keys) - len(one.queries) for one in blocks]
    zeros = [np.zeros(length, dtype=np.int64) for length in prompts]
    places = [np.arange(length) for length in prompts]
    key_of = there([np.concatenate([z, b.response]) for z, b in zip(zeros, blocks, strict=True)], k, -1)
    key_at = there([np.concatenate([p, b.at]) for p, b in zip(places, blocks, strict=True)], k, 0)
    query_of = there([one.response for one in blocks], q, -2)
    query_at = there([one.at for one in blocks], q, max(prompts))
    same = (key_of[:, None, :] == 0) | (key_of[:, None, :] == query_of[:, :, None])
    return (same & (key_at[:, None, :] <= query_at[:, :, None])).unsqueeze(1)
