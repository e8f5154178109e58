"""Log-probabilities of a prompt's responses, with the prompt computed once for all of them.

A group is a prompt with some of its responses, which share it (`shared_prompts.py`). That is exact, also for the
gradient: what the responses send back into the prompt's keys and values is summed and goes through the prompt in one
backward pass. The output head runs on response positions only, a slice at a time, so that (tokens x vocabulary) is
never in memory as a whole.

The policy and the reference, training and evaluation all go through here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from hps import packing
from hps.halves import Halves, accumulator
from hps.shared_prompts import KEYS_A_TOKEN, PromptState, SharedPrompts, inverse

Item = TypeVar("Item")


@dataclass(frozen=True)
class Group:
    """A prompt and some of its responses, as token ids; each response ends in EOS and is never empty."""

    prompt: list[int]
    responses: list[list[int]]

    @property
    def tokens(self) -> int:
        """Distinct tokens, which is what the shared computation pays for."""
        return len(self.prompt) + sum(map(len, self.responses))


class SequenceScorer(SharedPrompts):
    """Log-probabilities under a causal language model (or a PEFT model around one).

    Args:
        model: a transformers causal LM; with PEFT, the adapters that are active count.
        batch_tokens: padded tokens a forward pass may hold; it bounds memory and does not change results beyond
            rounding.
        in_step: from the number of forward passes that `backward` needs to the number it makes. Devices that share
            the model's shards must make the same number, whatever each needs for itself; by default it is its own.
    """

    def __init__(self, model: torch.nn.Module, batch_tokens: int, in_step: Callable[[int], int] = int):
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.halves = Halves(causal)
        super().__init__(self.halves.decoder, type(causal).__name__)
        self.head = self.halves.log_probs.head
        self.batch_tokens = batch_tokens
        self.in_step = in_step
        # Devices that compute in step cannot each split passes by their own lengths.
        if in_step is not int:
            self.pass_tokens = math.inf

    # --- forward -----------------------------------------------------------------------------------------------

    def hidden(self, **inputs) -> torch.Tensor:
        """As above, by way of the halves: sharded weights come together when one of those is called."""
        return self.halves.hidden(**inputs)

    def response_hidden(self, state: PromptState, rows: Sequence[int], responses: Sequence[list[int]]) -> torch.Tensor:
        """Hidden states that predict the tokens of R responses, concatenated: (sum of response lengths, hidden size).

        `rows` (R) says which prompt of `state` each response follows. Responses of similar length run together.
        """
        lengths = [len(response) for response in responses]
        passes = packing.alike(lengths, self.pass_tokens)
        hidden = [self._respond(state, [rows[i] for i in one], [responses[i] for i in one]) for one in passes]
        if len(passes) == 1:
            return hidden[0]
        starts = list(itertools.accumulate(lengths, initial=0))
        order = [at for one in passes for i in one for at in range(starts[i], starts[i + 1])]
        return torch.cat(hidden).index_select(0, self._there(inverse(order)))

    def _respond(self, state: PromptState, rows: Sequence[int], responses: Sequence[list[int]]) -> torch.Tensor:
        first = state.last_hidden.index_select(0, self._there(list(rows)))  # predicts a response's first token
        # The last token (EOS) is predicted, never fed.
        hidden = self.continued(state, rows, [response[:-1] or response for response in responses])
        hidden = torch.cat([first.unsqueeze(1), hidden], dim=1)  # (R, longest, hidden)
        real = packing.places([0] * len(responses), [len(response) for response in responses], hidden.shape[1])
        return hidden.flatten(0, 1).index_select(0, self._there(real))

    def log_probs_given(self, state: PromptState, rows: Sequence[int], responses: Sequence[list[int]]) -> torch.Tensor:
        """Summed log-probability of R responses, in nats, (R,); at least float32 whatever the weights' type."""
        hidden = self.response_hidden(state, rows, responses)
        return self._summed_log_probs(hidden, responses)

    def log_probs_unshared(self, groups: Sequence[Group]) -> torch.Tensor:
        """The same (R,), every response computed together with its prompt: the plain path."""
        responses = [response for group in groups for response in group.responses]
        prompts = [group.prompt for group in groups for _ in group.responses]
        ids, mask = self._padded([p + r[:-1] for p, r in zip(prompts, responses, strict=True)])
        hidden = self.halves.hidden(input_ids=ids, attention_mask=mask, use_cache=False)
        real = packing.places([len(prompt) - 1 for prompt in prompts], [len(r) for r in responses], ids.shape[1])
        return self._summed_log_probs(hidden.flatten(0, 1).index_select(0, self._there(real)), responses)

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
        rows, responses = _flatten(groups)
        prompts = [tuple(groups[row].prompt) for row in rows]
        values = [0.0] * len(responses)
        for one in self.passes(prompts, responses, self.batch_tokens):
            if one.state is None:
                own = [Group(groups[rows[i]].prompt, [responses[i]]) for i in one.numbers]
                log_probs = self.log_probs_unshared(own)
            else:
                log_probs = self.log_probs_given(one.state, one.rows, [responses[i] for i in one.numbers])
            for i, value in zip(one.numbers, log_probs.tolist(), strict=True):
                values[i] = value
            done(len(one.numbers))
        remaining = iter(values)
        return [[next(remaining) for _ in group.responses] for group in groups]

    # --- gradient ----------------------------------------------------------------------------------------------

    def backward(self, groups: Sequence[Group], loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Add the gradient of `loss(log_probs)` to the parameters; returns the log-probabilities (R,), detached.

        `loss` maps the log-probabilities of all responses of all groups, (R,) in order, to a scalar. What the responses
        send back is collected at the prompts' keys and values, and goes through the prompts in a backward pass of their
        own: the responses' activations are gone by then, and where weights are sharded, so are their gradients.

        Where the groups do not fit into `batch_tokens`, memory still holds the prompts and one batch of responses
        however many there are, and the gradient is exact: log-probabilities of all responses without a graph; the
        gradient of the loss with respect to them; then a forward and backward pass batch by batch, each weighted with
        its part of that gradient.
        """
        rows, responses = _flatten(groups)
        state = leaves = None
        if self.shares_prompts:
            state = self.encode_prompts([group.prompt for group in groups])
            leaves = state.detached()

        def log_probs_of(batch: list[int]) -> torch.Tensor:
            if leaves is None:
                return self.log_probs_unshared([Group(groups[rows[i]].prompt, [responses[i]]) for i in batch])
            return self.log_probs_given(leaves, [rows[i] for i in batch], [responses[i] for i in batch])

        batches = self._response_batches(groups)
        wanted = self.in_step(len(batches))
        if wanted == 1:
            values = log_probs_of(batches[0])
            loss(values).backward()
        else:
            # A pass that only other devices need computes a response once more and weighs it with nothing.
            passes = [(batch, 1.0) for batch in batches] + [(batches[0][:1], 0.0)] * (wanted - len(batches))
            values = torch.zeros(len(responses), dtype=accumulator(self.head.weight.dtype), device=self.device)
            with torch.no_grad():
                for batch, _ in passes:
                    values[self._there(batch)] = log_probs_of(batch)
            values.requires_grad_()
            (weights,) = torch.autograd.grad(loss(values), values)
            for batch, factor in passes:
                (log_probs_of(batch) * weights[self._there(batch)] * factor).sum().backward()
        if state is not None:
            # Not all get one: keys below the first adapter are frozen.
            pairs = zip(state.tensors(), leaves.tensors(), strict=True)
            reached = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
            torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])
        return values.detach()

    def _response_batches(self, groups: Sequence[Group]) -> list[list[int]]:
        """Numbers of the groups' responses, alike in length, in batches that fit beside the prompts."""
        lengths = [len(response) for group in groups for response in group.responses]
        if self.cost(groups) <= self.batch_tokens:
            return [list(range(len(lengths)))]
        room, extra = self._room(groups)
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        return list(packing.cut([(i, lengths[i]) for i in order], room, extra))

    # --- batches -----------------------------------------------------------------------------------------------

    def batches(self, groups: Sequence[Group]) -> Iterator[list[tuple[int, Group]]]:
        """Cut groups into batches of at most `batch_tokens`: [(position in `groups`, the group or a piece of it)].

        Groups of similar length share a batch, so little padding is computed; a group that is too large is cut.
        """
        pieces = []
        for position, group in enumerate(groups):
            if self.cost([group]) <= self.batch_tokens:
                pieces.append((position, group))
                continue
            items = [(i, len(response)) for i, response in enumerate(group.responses)]
            for cut in packing.cut(items, *self._room([group])):
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
        """Tokens of one pass over these groups, padding and what each response's copy of its prompt adds included."""
        responses = [len(response) for group in groups for response in group.responses]
        room, extra = self._room(groups)
        return self.batch_tokens - room + self._padded_tokens(responses) + extra * len(responses)

    def _padded_tokens(self, lengths: Sequence[int]) -> int:
        return packing.padded_tokens(lengths, self.pass_tokens)

    def _room(self, groups: Sequence[Group]) -> tuple[int, int]:
        """Tokens that `batch_tokens` leaves beside the prompts of these groups, and what a response adds to its own."""
        longest = max(len(group.prompt) for group in groups)
        if self.shares_prompts:
            prompts = self._padded_tokens([len(group.prompt) for group in groups])
            return self.batch_tokens - prompts, longest // KEYS_A_TOKEN
        return self.batch_tokens, longest

    # --- pieces ------------------------------------------------------------------------------------------------

    def _summed_log_probs(self, hidden: torch.Tensor, responses: Sequence[list[int]]) -> torch.Tensor:
        per_token = self.halves.log_probs(hidden, self._there([token for response in responses for token in response]))
        owner = self._there([row for row, response in enumerate(responses) for _ in response])
        return per_token.new_zeros(len(responses)).index_add(0, owner, per_token)


def _flatten(groups: Sequence[Group]) -> tuple[list[int], list[list[int]]]:
    rows = [row for row, group in enumerate(groups) for _ in group.responses]
    return rows, [response for group in groups for response in group.responses]
