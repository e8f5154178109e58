"""A decoder that computes a prompt once for everything that follows it: policy, reference and reward models alike.

The decoder runs over each prompt and keeps its keys and values; what follows the prompt then attends to them. That is
exact, also for the gradient (`logprobs.py`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from hps import packing, prompt_cache
from hps.models.batches import by_token_budget, pad

KEYS_A_TOKEN = 4
"""So many tokens of a prompt, whose keys and values each response copies, take the memory of one computed token."""
PASS_TOKENS = {"cpu": 16, "cuda": 192}
"""What one forward pass more costs, by the kind of device, in tokens that the same time would compute."""


@dataclass(frozen=True)
class PromptState:
    """What the responses need of B prompts: keys and values a layer, the hidden state at each prompt's last token."""

    keys_values: list[prompt_cache.KeysValues]  # per layer
    last_hidden: torch.Tensor  # (B, hidden size)
    mask: torch.Tensor  # (B, P) int64, 1 on real tokens; prompts are padded on the right

    def detached(self) -> PromptState:
        """The same state as leaves, which collect gradients where the state has any to pass on."""

        def leaf(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().requires_grad_(tensor.requires_grad)

        return PromptState([(leaf(k), leaf(v)) for k, v in self.keys_values], leaf(self.last_hidden), self.mask)

    def tensors(self) -> list[torch.Tensor]:
        return [tensor for pair in self.keys_values for tensor in pair] + [self.last_hidden]


@dataclass(frozen=True)
class Pass:
    """One forward pass: which of the responses it computes, and which prompt of `state` each of them follows.

    Without a state, for a model that cannot share prompts, each is computed together with its prompt.
    """

    numbers: list[int]
    state: PromptState | None
    rows: list[int]


class SharedPrompts:
    """The part of a model that shares prompts.

    Args:
        decoder: the layers of a transformers model, without its head.
        name: what the log calls the model if it cannot share prompts (`shares_prompts` is false then).
    """

    def __init__(self, decoder: torch.nn.Module, name: str):
        self.decoder = decoder
        self.pass_tokens = PASS_TOKENS.get(self.device.type, PASS_TOKENS["cuda"])
        self.shares_prompts = prompt_cache.keeps_whole_prompts(decoder)
        if not self.shares_prompts:
            logging.info(
                "%s does not keep plain keys and values of its prompt: each response is computed with its prompt", name
            )

    @property
    def device(self) -> torch.device:
        return self.decoder.device

    def hidden(self, **inputs) -> torch.Tensor:
        """The decoder's last hidden states, (B, T, hidden size)."""
        return self.decoder(**inputs).last_hidden_state

    def encode_prompts(self, prompts: Sequence[Sequence[int]]) -> PromptState:
        """Run the decoder over B prompts, those of similar length together."""
        passes = packing.alike([len(prompt) for prompt in prompts], self.pass_tokens)
        states = [self._encode([prompts[i] for i in one]) for one in passes]
        if len(states) == 1:
            return states[0]
        longest = max(map(len, prompts))
        back = self._there(inverse([i for one in passes for i in one]))

        def together(tensors: list[torch.Tensor], length_dim: int | None) -> torch.Tensor:
            if length_dim is not None:
                behind = [0, 0] * (tensors[0].dim() - 1 - length_dim)
                tensors = [F.pad(tensor, (*behind, 0, longest - tensor.shape[length_dim])) for tensor in tensors]
            return torch.cat(tensors).index_select(0, back)

        layers = zip(*(state.keys_values for state in states), strict=True)
        return PromptState(
            [tuple(together(list(which), 2) for which in zip(*layer, strict=True)) for layer in layers],
            together([state.last_hidden for state in states], None),
            together([state.mask for state in states], 1),
        )

    def _encode(self, prompts: Sequence[Sequence[int]]) -> PromptState:
        ids, mask = self._padded(prompts)
        cache = prompt_cache.to_write(self.decoder)
        hidden = self.hidden(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        ends = packing.places([len(prompt) - 1 for prompt in prompts], [1] * len(prompts), ids.shape[1])
        last = hidden.flatten(0, 1).index_select(0, self._there(ends))
        return PromptState(prompt_cache.written(cache), last, mask)

    def continued(self, state: PromptState, rows: Sequence[int], following: Sequence[Sequence[int]]) -> torch.Tensor:
        """Hidden states of R token sequences after their prompts, padded on the right: (R, longest, hidden size).

        `rows` (R) says which prompt of `state` each of them follows; none may be empty.
        """
        index = self._there(list(rows))
        ids, mask = self._padded(following)
        prompt_mask = state.mask.index_select(0, index)
        return self.hidden(
            input_ids=ids,
            attention_mask=torch.cat([prompt_mask, mask], dim=1),
            position_ids=prompt_mask.sum(1, keepdim=True) + torch.arange(ids.shape[1], device=self.device),
            past_key_values=prompt_cache.to_read(state.keys_values, index),
            use_cache=True,
        )

    def passes(
        self, prompts: Sequence[tuple[int, ...]], following: Sequence[Sequence[int]], batch_tokens: int
    ) -> Iterator[Pass]:
        """Forward passes over R responses, of which number i follows `prompts[i]`; equal prompts are computed once.

        First a batch of prompts of like length, then all that follows any of them, again in batches of like length.

        Args:
            batch_tokens: padded tokens of a forward pass, a response's copy of its prompt counted by KEYS_A_TOKEN.
        """
        if not self.shares_prompts:
            whole = [len(prompt) + len(after) for prompt, after in zip(prompts, following, strict=True)]
            for batch in self._batches(whole, 0, batch_tokens):
                yield Pass(batch, None, [])
            return
        numbers: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, prompt in enumerate(prompts):
            numbers[prompt].append(number)
        distinct = list(numbers)
        for chosen in by_token_budget([len(prompt) for prompt in distinct], batch_tokens):
            own = [distinct[i] for i in chosen]
            state = self.encode_prompts(own)
            waiting = [(row, number) for row, prompt in enumerate(own) for number in numbers[prompt]]
            lengths = [len(following[number]) for _, number in waiting]
            for batch in self._batches(lengths, max(map(len, own)) // KEYS_A_TOKEN, batch_tokens):
                yield Pass([waiting[i][1] for i in batch], state, [waiting[i][0] for i in batch])

    def _batches(self, lengths: Sequence[int], extra: int, batch_tokens: int) -> Iterator[list[int]]:
        """Numbers of sequences that share a pass: within the budget, where each takes `extra` more, and alike."""
        for batch in by_token_budget([length + extra for length in lengths], batch_tokens):
            for one in packing.alike([lengths[i] for i in batch], self.pass_tokens):
                yield [batch[i] for i in one]

    def _padded(self, sequences: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = pad(sequences)
        return ids.to(self.device, non_blocking=True), mask.to(self.device, non_blocking=True)

    def _there(self, numbers: list[int]) -> torch.Tensor:
        """On the model's device, without waiting for what that is computing."""
        return torch.tensor(numbers).to(self.device, non_blocking=True)


def inverse(order: Sequence[int]) -> list[int]:
    """Where each number from 0 on stands in `order`."""
    found = [0] * len(order)
    for place, number in enumerate(order):
        found[number] = place
    return found
