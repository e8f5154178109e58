"""A causal language model in the two parts that scoring calls: the decoder, and the output head slice by slice."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

HEAD_LOGITS = 2**24
"""Entries of the logits that the output head makes at a time (64 MiB in float32)."""


class Halves(torch.nn.Module):
    """The decoder and the output head of a transformers causal LM, as one module that can be sharded."""

    def __init__(self, causal: torch.nn.Module):
        super().__init__()
        self.decoder = causal.get_decoder()
        self.log_probs = TokenLogProbs(causal.get_output_embeddings())

    def hidden(self, **inputs) -> torch.Tensor:
        """The decoder's last hidden states, (B, T, hidden size)."""
        return self.decoder(**inputs).last_hidden_state


class TokenLogProbs(torch.nn.Module):
    """An output head that gives the log-probabilities of given tokens, and never holds all of its logits."""

    def __init__(self, head: torch.nn.Module):
        super().__init__()
        self.head = head

    def forward(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """(T,) of each target token, (T,), from the hidden states that predict them, (T, hidden size)."""
        size = max(1, HEAD_LOGITS // self.head.weight.shape[0])
        slices = zip(hidden.split(size), targets.split(size), strict=True)
        return torch.cat([self._slice(*given) for given in slices])

    def _slice(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Logits are computed again in the backward pass, not kept."""
        if torch.is_grad_enabled() and hidden.requires_grad:
            return checkpoint(_token_log_probs, self.head, hidden, targets, use_reentrant=False)
        return _token_log_probs(self.head, hidden, targets)


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Sums over tokens are kept in float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _token_log_probs(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = head(hidden)
    return -F.cross_entropy(logits.to(accumulator(logits.dtype)), targets, reduction="none")
