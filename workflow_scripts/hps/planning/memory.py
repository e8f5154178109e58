"""Memory of a job at its peak, on its device (on a CPU: of its process), in bytes; docs/plan.md has the formulas."""

from __future__ import annotations

from dataclasses import dataclass

from hps.generation.vllm_engine import GPU_SHARE
from hps.logprobs.packing import HEAD_LOGITS
from hps.planning.operations import Architecture, Gpu
from hps.workflow.config import Config

ITEMSIZE = {"float32": 4, "bfloat16": 2}
PROCESS = 0.4e9
"""A process with torch, transformers and peft loaded and nothing else (measured)."""
CONTEXT = 0.5e9
"""What a GPU's context and libraries take."""


@dataclass(frozen=True)
class Memory:
    """Memory under one configuration, on one kind of GPU; without a GPU, on a CPU."""

    config: Config
    gpu: Gpu | None

    @property
    def base(self) -> float:
        return CONTEXT if self.gpu else PROCESS

    @property
    def logits(self) -> int:
        return HEAD_LOGITS["cuda" if self.gpu else "cpu"]

    def training(self, model: Architecture, tokens: int, trained: int) -> float:
        """Of training `trained` parameters, all or an adapter's, in micro-batches of so many tokens."""
        full = trained == model.parameters
        compute = self.config["compute"]
        dtype = "float32" if full else compute["dtype"]
        size = ITEMSIZE[dtype]
        kept = model.layers * saved_bytes(model, dtype, full) * tokens
        if compute["activation_checkpointing"]:  # the input of each layer, and all of one layer
            kept = kept / model.layers + model.layers * model.hidden * size * tokens
        frozen = 0 if full else model.parameters * size
        shared = compute["processes"] if full else 1  # weights, gradients and moments over the devices
        # Of shards, the largest part of the model comes together: its embeddings or its head, with the gradient.
        whole = 2 * 4 * model.head_weights if shared > 1 else 0
        logits = self.logits * (size + 12)  # and in float32: themselves, their logarithm, their gradient
        # 16: a weight in float32, its gradient, AdamW's two moments
        return self.base + frozen + 16 * trained / shared + whole + 1.1 * kept + logits

    def scoring(self, model: Architecture, dtype: str) -> float:
        """Of a forward pass over `compute.score_tokens` tokens."""
        tokens, size = self.config["compute"]["score_tokens"], ITEMSIZE[dtype]
        live = tokens * (3 * model.intermediate + 6 * model.hidden) * size + tokens * model.cache_bytes(size)
        return self.base + model.parameters * size + live + self.logits * (size + 8)

    def comparing(self, model: Architecture, dtype: str, tokens: float) -> float:
        """Of the KL over so many tokens: as scoring, and logits five times in float64, for two models and their gap."""
        return self.scoring(model, dtype) + 5 * 8 * min(self.logits, tokens * model.vocab)

    def generating(self, model: Architecture, dtype: str, tokens: float) -> float:
        """Of sampling `compute.sequences` responses together, each up to so many tokens with its prompt.

        vLLM takes its share of the GPU whatever it needs, and needs the weights and one response.
        """
        compute, size = self.config["compute"], ITEMSIZE[dtype]
        weights = model.parameters * size
        if self.gpu and compute["generation"] == "vllm":
            needed = weights / compute["tensor_parallel"] + tokens * model.cache_bytes(size)
            return max(self.base + needed, GPU_SHARE * self.gpu.memory)
        sequences = compute["sequences"]
        # A cache is copied as it grows, a layer at a time. Probabilities are summed up in float64.
        cache = sequences * tokens * model.cache_bytes(size) * (1 + 1 / model.layers)
        return self.base + weights + cache + sequences * model.vocab * (size + 4 + 3 * 8)


def saved_bytes(architecture: Architecture, dtype: str, full: bool) -> float:
    """Bytes a token and layer that a forward pass keeps for the backward pass, without activation checkpointing.

    Counted on transformers' Llama with scaled-dot-product attention (tests/planning/test_planning.py
    counts again): under adapters on queries and values the inputs of the frozen weights are not kept, when all weights
    are trained they are.
    """
    hidden, keys = architecture.hidden, architecture.kv_heads * architecture.head_dim
    if dtype == "bfloat16":
        return 20 * hidden + 4 * keys + (8 if full else 6) * architecture.intermediate
    return (32 if full else 20) * hidden + 8 * keys + (16 if full else 12) * architecture.intermediate
