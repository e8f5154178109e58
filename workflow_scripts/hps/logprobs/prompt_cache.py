"""Keys and values of prompts, as the decoder's layers write them once and what follows them reads them.

transformers' own cache grows whenever a layer runs. These do not change when a layer runs again, as it does in the
backward pass where activations are recomputed (`recompute.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

KeysValues = tuple[torch.Tensor, torch.Tensor]
"""One layer's keys and values of prompts in one row, (1, heads, tokens of all prompts, head size) each."""


class _Written(DynamicLayer):
    """Keeps what the layer computes first, which is what belongs to the graph of the forward pass."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs) -> KeysValues:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
        return key_states, value_states


class _Read(DynamicLayer):
    """The prompts' keys and values in front of a row's own, without keeping the latter."""

    def __init__(self, prompts: KeysValues):
        super().__init__()
        self.lazy_initialization(*prompts)
        self.keys, self.values = prompts

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs) -> KeysValues:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


def to_write(decoder: torch.nn.Module) -> Cache:
    """An empty cache for the decoder's pass over prompts."""
    return Cache(layers=[_Written() for _ in _layers(decoder)])


def written(cache: Cache) -> list[KeysValues]:
    """What the pass over the prompts left in `to_write`, layer by layer."""
    return [(layer.keys, layer.values) for layer in cache.layers]


def to_read(prompts: Sequence[KeysValues]) -> Cache:
    """A cache for a pass over what follows the prompts."""
    return Cache(layers=[_Read(layer) for layer in prompts])


def keeps_whole_prompts(decoder: torch.nn.Module) -> bool:
    """Whether the model's cache is plain keys and values of every token in every layer (no window, no state)."""
    layers = _layers(decoder)
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _layers(decoder: torch.nn.Module) -> list:
    return DynamicCache(config=decoder.config).layers
