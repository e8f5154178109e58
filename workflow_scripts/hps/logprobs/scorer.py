"""Log-probabilities of a prompt's responses, with the prompt computed once for all of them.

A group is a prompt with some of its responses, which share it (`shared_prompts.py`). That is exact, also for the
gradient: what the responses send back into the prompt's keys and values is summed and goes through the prompt in one
backward pass. The output head runs on response positions only, a slice at a time, so that (tokens x vocabulary) is
never in memory as a whole.

The policy and the reference, training and evaluation all go through here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch

from hps.logprobs import packing, self_check
from hps.logprobs.halves import Halves, accumulator
from hps.logprobs.shared_prompts import SharedPrompts

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

    They are the log-softmax of the logits that the model's own `forward` gives, which a short sequence is held against
    (`self_check.py`); InputError where they are not.

    Args:
        model: a transformers causal LM; with PEFT, the adapters that are active count.
        batch_tokens: tokens a forward pass may hold (see `cost`); it bounds memory and does not change results beyond
            rounding.
        in_step: from the number of forward passes that `backward` needs to the number it makes. Devices that share
            the model's shards must make the same number, whatever each needs for itself; by default it is its own.
    """

    def __init__(self, model: torch.nn.Module, batch_tokens: int, in_step: Callable[[int], int] = int):
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.halves = Halves(causal)
        where = ": ".join(filter(None, [causal.name_or_path, type(causal).__name__]))
        super().__init__(self.halves.decoder, where)
        self.head = self.halves.log_probs.head
        self.batch_tokens = batch_tokens
        self.in_step = in_step

        def computed(prompt: Sequence[int], responses: Sequence[list[int]]) -> torch.Tensor:
            rows = [0] * len(responses)
            ways = self.both_ways(prompt, _fed(responses))
            return torch.stack([self._log_probs(rows, responses, *given) for given in ways])

        self_check.check(self, where, computed, functools.partial(_own_log_prob, causal))

    # --- forward -----------------------------------------------------------------------------------------------

    def hidden(self, **inputs) -> torch.Tensor:
        """As above, by way of the halves: sharded weights come together when one of those is called."""
        return self.halves.hidden(**inputs)

    def response_hidden(self, groups: Sequence[Group]) -> torch.Tensor:
        """Hidden states that predict the tokens of all responses, concatenated: (sum of lengths, hidden size)."""
        rows, responses = _flatten(groups)
        given = self.together([group.prompt for group in groups], rows, _fed(responses))
        return self._predicting(rows, responses, *given)

    def log_probs_unshared(self, groups: Sequence[Group]) -> torch.Tensor:
        """Log-probabilities (R,), every response computed together with its prompt: the plain path."""
        rows, responses = _flatten(groups)
        given = self._apart([groups[row].prompt for row in rows], _fed(responses))
        return self._log_probs(range(len(rows)), responses, *given)

    @torch.no_grad()
    def score(self, groups: Sequence[Group], done: Callable[[int], object] = lambda _: None) -> list[list[float]]:
        """Log-probabilities of all responses of all groups, nats, in the order given.

        `done` is called with the number of responses just scored.
        """
        values = [0.0] * sum(len(group.responses) for group in groups)
        for numbers, log_probs, _ in self.scored(groups):
            for i, value in zip(numbers, log_probs.tolist(), strict=True):
                values[i] = value
            done(len(numbers))
        remaining = iter(values)
        return [[next(remaining) for _ in group.responses] for group in groups]

    @torch.no_grad()
    def scored(self, groups: Sequence[Group]) -> Iterator[tuple[list[int], torch.Tensor, Sequence[torch.Tensor]]]:
        """Forward passes over all responses of all groups, in an order of the passes.

        Yields:
            Of each pass the numbers of its R responses, counted over all groups; their log-probabilities in nats, (R,);
            and of each response the states that predict its tokens, (its length, hidden size).
        """
        rows, responses = _flatten(groups)
        for one in self.passes([tuple(groups[row].prompt) for row in rows], _fed(responses), self.batch_tokens):
            own = [responses[i] for i in one.numbers]
            states = self._predicting(one.rows, own, one.ends, one.hidden)
            yield one.numbers, self._summed(states, own), states.split([len(response) for response in own])

    # --- gradient ----------------------------------------------------------------------------------------------

    def backward(self, groups: Sequence[Group], loss: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Add the gradient of `loss(log_probs)` to the parameters; returns the log-probabilities (R,), detached.

        `loss` maps the log-probabilities of all responses of all groups, (R,) in order, to a scalar.

        Where the groups do not fit into `batch_tokens`, memory holds the prompts and one part of the responses however
        many there are, and the gradient is exact: log-probabilities of all responses without a graph; the gradient of
        the loss with respect to them; then a forward and backward pass part by part, each weighted with its share of
        that gradient. What the responses send back is collected at the prompts' keys and values, and goes through the
        prompts in a backward pass of their own.
        """
        rows, responses = _flatten(groups)
        prompts = [group.prompt for group in groups]
        fed = _fed(responses)
        parts = self._parts(groups)
        wanted = self.in_step(len(parts))
        if wanted == 1:
            values = self._log_probs(rows, responses, *self.together(prompts, rows, fed))
            loss(values).backward()
            return values.detach()
        state = leaves = None
        if self.shares_prompts:
            state = self.encode_prompts(prompts)
            leaves = state.detached()

        def log_probs_of(part: list[int]) -> torch.Tensor:
            own, after, following = ([of[i] for i in part] for of in (rows, responses, fed))
            if leaves is None:
                own, given = range(len(part)), self._apart([prompts[row] for row in own], following)
            else:
                given = leaves.ends, self.continued(leaves, own, following)
            return self._log_probs(own, after, *given)

        # A pass that only other devices need computes a response once more and weighs it with nothing.
        passes = [(part, 1.0) for part in parts] + [(parts[0][:1], 0.0)] * (wanted - len(parts))
        values = torch.zeros(len(responses), dtype=accumulator(self.head.weight.dtype), device=self.device)
        with torch.no_grad():
            for part, _ in passes:
                values[self._there(part)] = log_probs_of(part)
        values.requires_grad_()
        (weights,) = torch.autograd.grad(loss(values), values)
        for part, factor in passes:
            (log_probs_of(part) * weights[self._there(part)] * factor).sum().backward()
        if state is not None:
            # Not all get one: keys below the first adapter are frozen.
            pairs = zip(state.tensors(), leaves.tensors(), strict=True)
            reached = [(tensor, leaf.grad) for tensor, leaf in pairs if leaf.grad is not None]
            torch.autograd.backward([tensor for tensor, _ in reached], [gradient for _, gradient in reached])
        return values.detach()

    def _parts(self, groups: Sequence[Group]) -> list[list[int]]:
        """Numbers of the groups' responses in parts that each fit beside the prompts."""
        rows, responses = _flatten(groups)
        if self.group_cost(groups) <= self.batch_tokens:
            return [list(range(len(responses)))]
        following = [(row, number, len(responses[number])) for number, row in enumerate(rows)]
        return list(self.parts([group.prompt for group in groups], following, self.batch_tokens))

    # --- batches -----------------------------------------------------------------------------------------------

    def packed(self, items: Sequence[Item], group: Callable[[Item], Group]) -> Iterator[list[Item]]:
        """Cut items, in order, into batches whose groups fit into `batch_tokens`; one that is larger stands alone."""
        return packing.fill(items, lambda batch: self.group_cost([group(item) for item in batch]), self.batch_tokens)

    def group_cost(self, groups: Sequence[Group]) -> int:
        """`cost` of one pass over these groups."""
        return self.cost([len(group.prompt) for group in groups], [list(map(len, group.responses)) for group in groups])

    # --- pieces ------------------------------------------------------------------------------------------------

    def _predicting(
        self, rows: Sequence[int], responses: Sequence[list[int]], ends: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """The states that predict the responses' tokens, from those at the prompts' ends and at the tokens fed."""
        places, reached = [], len(ends)
        for row, response, fed in zip(rows, responses, _fed(responses), strict=True):
            places += [row, *range(reached, reached + len(response) - 1)]
            reached += len(fed)
        return torch.cat([ends, hidden]).index_select(0, self._there(places))

    def _log_probs(
        self, rows: Sequence[int], responses: Sequence[list[int]], ends: torch.Tensor, hidden: torch.Tensor
    ) -> torch.Tensor:
        """Summed log-probability of R responses, in nats, (R,); at least float32 whatever the weights' type."""
        return self._summed(self._predicting(rows, responses, ends, hidden), responses)

    def _summed(self, predicting: torch.Tensor, responses: Sequence[list[int]]) -> torch.Tensor:
        """The same from the states that predict the responses' tokens."""
        targets = self._there([token for response in responses for token in response])
        per_token = self.halves.log_probs(predicting, targets)
        owner = self._there([row for row, response in enumerate(responses) for _ in response])
        return per_token.new_zeros(len(responses)).index_add(0, owner, per_token)


def _own_log_prob(causal: torch.nn.Module, prompt: Sequence[int], response: list[int]) -> float:
    """log pi(response | prompt) from the model's own `forward`, nats."""
    ids = torch.tensor([[*prompt, *response]], device=causal.device)
    logits = causal(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0, len(prompt) - 1 : -1]
    log_probs = logits.to(accumulator(logits.dtype)).log_softmax(-1)
    return log_probs.gather(1, ids[0, len(prompt) :, None]).sum().item()


def _flatten(groups: Sequence[Group]) -> tuple[list[int], list[list[int]]]:
    rows = [row for row, group in enumerate(groups) for _ in group.responses]
    return rows, [response for group in groups for response in group.responses]


def _fed(responses: Sequence[list[int]]) -> list[list[int]]:
    """The tokens of each response that the decoder reads: all but the last (EOS), which is only predicted.

    A response of EOS alone is read for nothing, so that every pass has something to read.
    """
    return [response[:-1] or response for response in responses]
