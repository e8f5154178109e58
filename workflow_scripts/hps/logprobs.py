"""Log-probabilities of a prompt's responses, with the prompt computed once for all of them.

A group is a prompt with some of its responses. The decoder runs over each prompt once and keeps its keys and values;
the responses then attend to them. That is exact, also for the gradient: what the responses send back into the prompt's
keys and values is summed and goes through the prompt in one backward pass. The output head runs on response positions
only, a slice at a time, so that (tokens x vocabulary) is never in memory as a whole.

The policy and the reference, training and evaluation all go through here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from hps.models.batches import pad

Item = TypeVar("Item")
HEAD_LOGITS = 2**24
"""Entries of the logits that the output head makes at a time (64 MiB in float32)."""


@dataclass(frozen=True)
class Group:
    """A prompt and some of its responses, as token ids; each response ends in EOS and is never empty."""

    prompt: list[int]
    responses: list[list[int]]

    @property
    def tokens(self) -> int:
        """Distinct tokens, which is what the shared computation pays for."""
        return len(self.prompt) + sum(map(len, self.responses))


@dataclass(frozen=True)
class PromptState:
    """What the responses need of B prompts: keys and values a layer, the hidden state at each prompt's last token."""

    keys_values: list[tuple[torch.Tensor, torch.Tensor]]  # per layer, (B, heads, P, head size) each
    last_hidden: torch.Tensor  # (B, hidden size)
    mask: torch.Tensor  # (B, P) int64, 1 on real tokens; prompts are padded on the right

    def detached(self) -> PromptState:
        """The same state as leaves, which collect gradients where the state has any to pass on."""

        def leaf(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().requires_grad_(tensor.requires_grad)

        return PromptState([(leaf(k), leaf(v)) for k, v in self.keys_values], leaf(self.last_hidden), self.mask)

    def tensors(self) -> list[torch.Tensor]:
        return [tensor for pair in self.keys_values for tensor in pair] + [self.last_hidden]


class SequenceScorer:
    """Log-probabilities under a causal language model (or a PEFT model around one).

    Args:
        model: a transformers causal LM; with PEFT, the adapters that are active count.
        batch_tokens: padded tokens a forward pass may hold; it bounds memory and does not change results beyond
            rounding.
    """

    def __init__(self, model: torch.nn.Module, batch_tokens: int):
        self.model = model
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.decoder = causal.get_decoder()
        self.head = causal.get_output_embeddings()
        self.batch_tokens = batch_tokens
        self.shares_prompts = _keeps_whole_prompts(self.decoder)
        if not self.shares_prompts:
            logging.info(
                "%s does not keep plain keys and values of its prompt: each response is computed with its prompt",
                type(causal).__name__,
            )

    @property
    def device(self) -> torch.device:
        return self.head.weight.device

    # --- forward -----------------------------------------------------------------------------------------------

    def encode_prompts(self, prompts: Sequence[list[int]]) -> PromptState:
        """Run the decoder over B prompts."""
        ids, mask = pad(prompts, self.device)
        out = self.decoder(input_ids=ids, attention_mask=mask, use_cache=True)
        last = out.last_hidden_state[torch.arange(len(prompts), device=ids.device), mask.sum(1) - 1]
        return PromptState([(layer.keys, layer.values) for layer in out.past_key_values.layers], last, mask)

    def response_hidden(self, state: PromptState, rows: Sequence[int], responses: Sequence[list[int]]) -> torch.Tensor:
        """Hidden states that predict the tokens of R responses, concatenated: (sum of response lengths, hidden size).

        `rows` (R) says which prompt of `state` each response follows.
        """
        index = torch.tensor(rows, device=self.device)
        first = state.last_hidden.index_select(0, index)  # predicts a response's first token
        lengths = torch.tensor([len(response) for response in responses], device=self.device)
        if int(lengths.max()) == 1:
            return first
        # The last token (EOS) is predicted, never fed.
        ids, mask = pad([response[:-1] or response for response in responses], self.device)
        prompt_mask = state.mask.index_select(0, index)
        cache = DynamicCache([(k.index_select(0, index), v.index_select(0, index)) for k, v in state.keys_values])
        positions = prompt_mask.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=self.device)
        hidden = self.decoder(
            input_ids=ids,
            attention_mask=torch.cat([prompt_mask, mask], dim=1),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        hidden = torch.cat([first.unsqueeze(1), hidden], dim=1)  # (R, longest, hidden)
        real = torch.arange(hidden.shape[1], device=self.device) < lengths.unsqueeze(1)
        return hidden[real]

    def log_probs_given(self, state: PromptState, rows: Sequence[int], responses: Sequence[list[int]]) -> torch.Tensor:
        """Summed log-probability of R responses, in nats, (R,); at least float32 whatever the weights' type."""
        hidden = self.response_hidden(state, rows, responses)
        return self._summed_log_probs(hidden, responses)

    def log_probs_unshared(self, groups: Sequence[Group]) -> torch.Tensor:
        """The same (R,), every response computed together with its prompt: the plain path."""
        responses = [response for group in groups for response in group.responses]
        prompts = [group.prompt for group in groups for _ in group.responses]
        ids, mask = pad([p + r[:-1] for p, r in zip(prompts, responses, strict=True)], self.device)
        hidden = self.decoder(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        pieces = [
            hidden[i, len(p) - 1 : len(p) - 1 + len(r)] for i, (p, r) in enumerate(zip(prompts, responses, strict=True))
        ]
        return self._summed_log_probs(torch.cat(pieces), responses)

    def _log_probs(self, groups: Sequence[Group]) -> torch.Tensor:
        if not self.shares_prompts:
            return self.log_probs_unshared(groups)
        state = self.encode_prompts([group.prompt for group in groups])
        return self.log_probs_given(state, *_flatten(groups))

    @torch.no_grad()
    def score(self, groups: Sequence[Group], done: Callable[[int], object] = lambda _: None) -> list[list[float]]:
        """Log-probabilities of all responses of all groups, nats, in the order given.

        `done` is called with the number of responses just scored.
        """
        results: list[list[float]] = [[] for _ in groups]
        for batch in self.batches(groups):
            values = self._log_probs([piece for _, piece in batch]).tolist()
            for position, piece in batch:
                results[position] += values[: len(piece.responses)]
                del values[: len(piece.responses)]
            done(sum(len(piece.responses) for _, piece in batch))
        return results

    # --- gradient ----------------------------------------------------------------------------------------------

    def backward(self, groups: Sequence[Group], loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Add the gradient of `loss(log_probs)` to the parameters; returns the log-probabilities (R,), detached.

        `loss` maps the log-probabilities of all responses of all groups, (R,) in order, to a scalar. Where the groups
        fit into `batch_tokens` this is one forward and one backward pass. Otherwise it is exact in two passes, and
        memory holds one batch at a time however many responses there are: log-probabilities of all responses without
        a graph; the gradient of the loss with respect to them; then a forward and backward pass batch by batch, each
        weighted with its part of that gradient.
        """
        if self.cost(groups) <= self.batch_tokens:
            log_probs = self._log_probs(groups)
            loss(log_probs).backward()
            return log_probs.detach()

        values = [value for group in self.score(groups) for value in group]
        leaf = torch.tensor(values, device=self.device, dtype=_accumulator(self.head.weight.dtype), requires_grad=True)
        (weights,) = torch.autograd.grad(loss(leaf), leaf)
        offset = 0
        for group in groups:
            self._weighted_backward(group, weights[offset : offset + len(group.responses)])
            offset += len(group.responses)
        return leaf.detach()

    def _weighted_backward(self, group: Group, weights: torch.Tensor) -> None:
        """Add the gradient of sum_i weights_i log pi(y_i | x) for one group, batch by batch."""
        order = sorted(range(len(group.responses)), key=lambda i: len(group.responses[i]))
        batches = list(_cut([(i, len(group.responses[i])) for i in order], self.batch_tokens))
        if not self.shares_prompts:
            for batch in batches:
                piece = Group(group.prompt, [group.responses[i] for i in batch])
                (self.log_probs_unshared([piece]) * weights[batch]).sum().backward()
            return
        state = self.encode_prompts([group.prompt])
        leaves = state.detached()
        for batch in batches:
            log_probs = self.log_probs_given(leaves, [0] * len(batch), [group.responses[i] for i in batch])
            (log_probs * weights[batch]).sum().backward()
        # Not all get one: frozen keys below the first adapter; and responses of one token touch the hidden state only.
        reached = [(a, b.grad) for a, b in zip(state.tensors(), leaves.tensors(), strict=True) if b.grad is not None]
        torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])

    # --- batches -----------------------------------------------------------------------------------------------

    def batches(self, groups: Sequence[Group]) -> Iterator[list[tuple[int, Group]]]:
        """Cut groups into batches of at most `batch_tokens`: [(position in `groups`, the group or a piece of it)].

        Groups of similar length share a batch, so little padding is computed; a group that is too large is cut.
        """
        pieces = []
        for position, group in enumerate(groups):
            room = max(1, self.batch_tokens - len(group.prompt))
            items = [(i, len(response)) for i, response in enumerate(group.responses)]
            for cut in _cut(items, room):
                pieces.append((position, Group(group.prompt, [group.responses[i] for i in cut])))
        # Stable: the pieces of one group stay in order.
        pieces.sort(key=lambda item: (len(item[1].prompt), item[0]))
        return self.packed(pieces, lambda piece: piece[1])

    def packed(self, items: Sequence[Item], group: Callable[[Item], Group]) -> Iterator[list[Item]]:
        """Cut items, in order, into batches whose groups fit into `batch_tokens`; one that is larger stands alone."""
        batch: list[Item] = []
        for item in items:
            if batch and self.cost([group(other) for other in [*batch, item]]) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def cost(self, groups: Sequence[Group]) -> int:
        """Padded tokens of one forward pass over these groups."""
        responses = [len(response) for group in groups for response in group.responses]
        longest = max(len(group.prompt) for group in groups)
        if self.shares_prompts:
            return longest * len(groups) + max(responses) * len(responses)
        return (longest + max(responses)) * len(responses)

    # --- pieces ------------------------------------------------------------------------------------------------

    def _summed_log_probs(self, hidden: torch.Tensor, responses: Sequence[list[int]]) -> torch.Tensor:
        targets = torch.tensor([token for response in responses for token in response], device=self.device)
        size = max(1, HEAD_LOGITS // self.head.weight.shape[0])
        per_token = torch.cat([self._head(h, t) for h, t in zip(hidden.split(size), targets.split(size), strict=True)])
        owner = torch.repeat_interleave(
            torch.arange(len(responses), device=self.device),
            torch.tensor([len(response) for response in responses], device=self.device),
        )
        return per_token.new_zeros(len(responses)).index_add(0, owner, per_token)

    def _head(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Log-probability of each target token (T,); its logits are computed again in the backward pass, not kept."""
        if torch.is_grad_enabled() and hidden.requires_grad:
            return checkpoint(_token_log_probs, self.head, hidden, targets, use_reentrant=False)
        return _token_log_probs(self.head, hidden, targets)


def _token_log_probs(head: torch.nn.Module, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    logits = head(hidden)
    return -F.cross_entropy(logits.to(_accumulator(logits.dtype)), targets, reduction="none")


def _accumulator(dtype: torch.dtype) -> torch.dtype:
    """Sums over tokens are kept in float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def _flatten(groups: Sequence[Group]) -> tuple[list[int], list[list[int]]]:
    rows = [row for row, group in enumerate(groups) for _ in group.responses]
    return rows, [response for group in groups for response in group.responses]


def _cut(items: Sequence[tuple[int, int]], budget: int) -> Iterator[list[int]]:
    """Cut (index, length) items, in order, into runs of at most `budget` padded tokens (one item at least)."""
    run: list[int] = []
    longest = 0
    for index, length in items:
        if run and max(longest, length) * (len(run) + 1) > budget:
            yield run
            run, longest = [], 0
        run.append(index)
        longest = max(longest, length)
    if run:
        yield run


def _keeps_whole_prompts(decoder: torch.nn.Module) -> bool:
    """Whether the model's cache is plain keys and values of every token in every layer (no window, no state)."""
    layers = DynamicCache(config=decoder.config).layers
    return bool(layers) and all(type(layer).__name__ == "DynamicLayer" for layer in layers)
