"""A causal language model in the two parts that scoring calls: the decoder, and the output head slice by slice."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from hps.logprobs.packing import head_rows
from hps.support.errors import InputError

Product = Callable[[torch.Tensor], torch.Tensor]
"""The product of states (..., hidden size) with the output head's matrix."""


class Halves(torch.nn.Module):
    """The decoder and the output head of a transformers causal LM, as one module that can be sharded."""

    def __init__(self, causal: torch.nn.Module):
        super().__init__()
        self.decoder = causal.get_decoder()
        self.log_probs = TokenLogProbs(OutputHead(causal))

    def hidden(self, **inputs) -> torch.Tensor:
        """The decoder's last hidden states, (B, T, hidden size)."""
        return self.decoder(**inputs).last_hidden_state


class OutputHead(torch.nn.Module):
    """What a causal LM's own `forward` makes of its decoder's states: logits.

    For many models that is more than a product with a matrix: some scale the logits, some bound them. So the model's
    own `forward` is called on its shell (`_Shell`). Where that adds nothing to the product, or cannot be called, the
    product is all that is computed; whether that was right is for `self_check.py` to say.

    Raises InputError for a model whose decoder and matrix are not parts of it.
    """

    def __init__(self, causal: torch.nn.Module):
        super().__init__()
        self.matrix = causal.get_output_embeddings()
        self.shell = _Shell(causal)
        self.is_product = self.weight.is_meta or self._adds_nothing()

    @property
    def weight(self) -> torch.Tensor:
        """The matrix, (vocabulary, hidden size)."""
        return self.matrix.weight

    def forward(self, hidden: torch.Tensor, product: Product | None = None) -> torch.Tensor:
        """Logits (T, vocabulary) of states (T, hidden size); `product` is called in place of the matrix."""
        product = product or self.matrix
        return product(hidden) if self.is_product else self.shell.logits(hidden, product)

    @torch.no_grad()
    def _adds_nothing(self) -> bool:
        """Whether `forward` leaves the product as it is, tried with large logits of both signs."""
        size = self.weight.shape[1]
        states = torch.linspace(-100, 100, 3 * size, dtype=self.weight.dtype, device=self.weight.device).view(3, size)
        try:
            own = self.shell.logits(states, self.matrix)
        except (AttributeError, TypeError, ValueError):
            return True
        return torch.equal(own, self.matrix(states.unsqueeze(0))[0])


class _Shell:
    """A shallow copy of a causal LM, which shares what it has with the model but for two parts.

    Its decoder only hands out the states that it is given, and its output head calls the product that it is given.
    """

    def __init__(self, causal: torch.nn.Module):
        paths = {id(part): path for path, part in causal.named_modules() if path}
        decoder, matrix = (paths.get(id(part)) for part in (causal.get_decoder(), causal.get_output_embeddings()))
        if decoder is None or matrix is None:
            raise InputError(type(causal).__name__, "its decoder and its output head are not parts that can be called")
        self._given: tuple[torch.Tensor, Product] | None = None
        shell = _with_stand_in(causal, decoder, lambda *_, **__: _States(self._given[0]))
        self._model = _with_stand_in(shell, matrix, lambda states: self._given[1](states))

    def logits(self, hidden: torch.Tensor, product: Product) -> torch.Tensor:
        """Logits (T, vocabulary) that the model's own `forward` makes of states (T, hidden size)."""
        self._given = hidden.unsqueeze(0), product
        try:
            return self._model.forward(use_cache=False).logits[0]
        finally:
            self._given = None


class _States:
    """A decoder's output that holds its last states and nothing else, whatever a model asks it for."""

    def __init__(self, states: torch.Tensor):
        self.last_hidden_state = states

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: int | slice):
        return (self.last_hidden_state,)[index]


class _StandIn:
    """Called in place of a part of a model; it has that part's plain attributes, but neither weights nor hooks."""

    def __init__(self, part: torch.nn.Module, call: Callable):
        self.__dict__ |= {name: value for name, value in vars(part).items() if not name.startswith("_")}
        self._call = call

    def __call__(self, *args, **kwargs):
        return self._call(*args, **kwargs)


def _with_stand_in(module: torch.nn.Module, path: str, call: Callable) -> torch.nn.Module:
    """A shallow copy of a module, in which `call` is called in place of the part at `path`."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    name, _, rest = path.partition(".")
    part = shell._modules.pop(name)
    shell.__dict__[name] = _with_stand_in(part, rest, call) if rest else _StandIn(part, call)
    return shell


class TokenLogProbs(torch.nn.Module):
    """An output head that gives the log-probabilities of given tokens, and never holds all of its logits."""

    def __init__(self, head: OutputHead):
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
        if type(self.head.matrix) is torch.nn.Linear and not self.head.weight.requires_grad:
            return _FrozenHead.apply(hidden, targets, self.head)
        return checkpoint(_token_log_probs, self.head, hidden, targets, use_reentrant=False)


class _FrozenHead(torch.autograd.Function):
    """Log-probabilities with their gradient by the hidden states, made while the logits are there.

    A token's log-probability depends on its own hidden state alone, so its gradient is one vector, whatever is to be
    made of the log-probability later: nothing needs to be computed again.
    """

    @staticmethod
    def forward(ctx, hidden: torch.Tensor, targets: torch.Tensor, head: OutputHead) -> torch.Tensor:
        # Without the matrix's hooks: the graph is this function's own.
        product = functools.partial(F.linear, weight=head.matrix.weight, bias=head.matrix.bias)
        with torch.enable_grad():
            own = hidden.detach().requires_grad_()
            log_probs = _token_log_probs(functools.partial(head, product=product), own, targets)
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
