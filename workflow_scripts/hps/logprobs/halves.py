"""A causal language model in the two parts that scoring calls: the decoder, and the output head slice by slice."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hps.logprobs.packing import head_rows


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
        size = head_rows(self.head.weight.shape[0], hidden.device.type)
        slices = zip(hidden.split(size), targets.split(size), strict=True)
        return torch.cat([self._slice(*given) for given in slices])

    def _slice(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """No logits are kept for the backward pass."""
        if not (torch.is_grad_enabled() and hidden.requires_grad):
            return _token_log_probs(self.head, hidden, targets)
        if type(self.head) is torch.nn.Linear and not self.head.weight.requires_grad:
            return _FrozenHead.apply(hidden, targets, self.head)
        return checkpoint(_token_log_probs, self.head, hidden, targets, use_reentrant=False)


class _FrozenHead(torch.autograd.Function):
    """Log-probabilities with their gradient by the hidden states, made while the logits are there.

    A token's log-probability depends on its own hidden state alone, so its gradient is one vector, whatever is to be
    made of the log-probability later: nothing needs to be computed again.
    """

    @staticmethod
    def forward(ctx, hidden: torch.Tensor, targets: torch.Tensor, head: torch.nn.Module) -> torch.Tensor:
        # Without the module's hooks: the graph is this function's own.
        linear = functools.partial(F.linear, weight=head.weight, bias=head.bias)
        with torch.enable_grad():
            own = hidden.detach().requires_grad_()
            log_probs = _token_log_probs(linear, own, targets)
            (gradient,) = torch.autograd.grad(log_probs.sum(), own)
        ctx.save_for_backward(gradient)
        return log_probs.detach()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_output: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_output.unsqueeze(1)).to(gradient.dtype), None, None


def accumulator(dtype: torch.dtype) -> torch.dtype:
    """Sums over tokens are kept in float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _token_log_probs(
    head: Callable[[torch.Tensor], torch.Tensor], hidden: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    logits = head(hidden)
    return -F.cross_entropy(logits.to(accumulator(logits.dtype)), targets, reduction="none")
