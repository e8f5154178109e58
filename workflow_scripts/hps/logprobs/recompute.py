"""Activation checkpointing: a decoder layer's activations are computed again in the backward pass instead of kept.

transformers' own switch works in training mode only and takes the cache away, on which the shared computation of
prompts rests. The caches of `prompt_cache.py` may be computed twice, so here every layer is simply wrapped.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.utils.checkpoint import checkpoint

from hps.support.errors import InputError


def recompute_layers(model: torch.nn.Module) -> None:
    """Keep only each decoder layer's input for the backward pass; values and gradients stay the same.

    The layer's `forward` is wrapped, not its call: hooks, such as those that gather sharded weights, stay outside and
    run once.

    Args:
        model: a transformers causal LM, or a PEFT model around one. Its layers must not draw random numbers (dropout),
            which the second computation would draw anew.

    Raises InputError for a decoder that does not list its layers as `layers`.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    layers = getattr(causal.get_decoder(), "layers", None)
    if layers is None:
        raise InputError("compute.activation_checkpointing", f"{type(causal).__name__} does not list its layers")
    for layer in layers:
        layer.forward = _recomputed(layer.forward)


def _recomputed(forward: Callable) -> Callable:
    @functools.wraps(forward)
    def wrapped(*args, **kwargs):
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)

    return wrapped
