"""A decoder that computes a prompt once for everything that follows it: policy, reference and reward models alike.

Prompts and what follows them are one row of tokens without any padding, in which only attention keeps the sequences
apart (`attention.py`). Where they do not fit into one pass, the decoder runs over the prompts and keeps their
keys and values, and what follows comes part by part. Both are exact, also for the gradient (`logprobs.py`).
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from hps.logprobs import attention, context, packing, prompt_cache
from hps.logprobs.batches import by_token_budget, pad

KEYS_A_TOKEN = 4
"""So many tokens of a prompt, whose keys and values each block of responses copies, take the memory of one computed
token."""


@dataclass(frozen=True)
class PromptState:
    """What the responses need of B prompts: keys and values a layer, the hidden state at each prompt's last token."""

    keys_values: list[prompt_cache.KeysValues]  # per layer
    ends: torch.Tensor  # (B, hidden size)
    lengths: list[int]

    def detached(self) -> PromptState:
        """The same state as leaves, which collect gradients where the state has any to pass on."""

        def leaf(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.detach().requires_grad_(tensor.requires_grad)

        return PromptState([(leaf(k), leaf(v)) for k, v in self.keys_values], leaf(self.ends), self.lengths)

    def tensors(self) -> list[torch.Tensor]:
        return [tensor for pair in self.keys_values for tensor in pair] + [self.ends]


@dataclass(frozen=True)
class Pass:
    """What one forward pass computed of the sequences with these numbers."""

    numbers: list[int]
    rows: list[int]  # (R) which of `ends` belongs to each sequence's prompt
    ends: torch.Tensor  # (B, hidden size) states at the last token of each prompt
    hidden: torch.Tensor  # (sum of lengths, hidden size) states at the sequences' tokens, one after the other


class SharedPrompts:
    """The part of a model that shares prompts.

    Args:
        decoder: the layers of a transformers model, without its head. Its attention becomes that of
            `attention.py`, which is transformers' own wherever else the model is used.
        name: what messages call the model, and the log if it cannot share prompts (`shares_prompts` is false then).

    Every computation raises InputError for a sequence of more tokens than the model has positions.
    """

    def __init__(self, decoder: torch.nn.Module, name: str):
        self.decoder = decoder
        self.name = name
        self.positions = context.positions(decoder.config)
        self.block = attention.block_tokens(decoder.config.hidden_size)
        self.shares_prompts = prompt_cache.keeps_whole_prompts(decoder) and _takes_attention(decoder)
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

    def together(
        self, prompts: Sequence[Sequence[int]], rows: Sequence[int], following: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states of B prompts and R sequences that follow them, in one pass.

        Args:
            rows: (R) which of the prompts each sequence follows.
            following: token ids; some may be empty.

        Returns the states at the prompts' last tokens, (B, hidden size), and at the sequences' tokens, one after the
        other, (sum of lengths, hidden size).
        """
        if not self.shares_prompts:
            ends, hidden = self._apart([prompts[row] for row in rows], following)
            return ends.index_select(0, self._there([list(rows).index(row) for row in range(len(prompts))])), hidden
        lengths = [len(prompt) for prompt in prompts]
        hidden = self._row(prompts, lengths, rows, following)
        ends = hidden.index_select(0, self._there((np.cumsum(lengths) - 1).tolist()))
        return ends, hidden[sum(lengths) :]

    def encode_prompts(self, prompts: Sequence[Sequence[int]]) -> PromptState:
        """Run the decoder over B prompts."""
        lengths = [len(prompt) for prompt in prompts]
        cache = prompt_cache.to_write(self.decoder)
        hidden = self._row(prompts, lengths, [], [], cache)
        ends = hidden.index_select(0, self._there((np.cumsum(lengths) - 1).tolist()))
        return PromptState(prompt_cache.written(cache), ends, lengths)

    def continued(self, state: PromptState, rows: Sequence[int], following: Sequence[Sequence[int]]) -> torch.Tensor:
        """Hidden states of R sequences after their prompts, one after the other: (sum of lengths, hidden size).

        `rows` (R) says which prompt of `state` each of them follows; not all may be empty.
        """
        return self._row([], state.lengths, rows, following, prompt_cache.to_read(state.keys_values))

    def both_ways(
        self, prompt: Sequence[int], following: Sequence[Sequence[int]]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """What `together` returns of one prompt, by each way of computing it that `passes` may take."""
        rows = [0] * len(following)
        yield self.together([prompt], rows, following)
        if self.shares_prompts:
            state = self.encode_prompts([prompt])
            yield state.ends, self.continued(state, rows, following)

    def _row(
        self,
        prompts: Sequence[Sequence[int]],
        lengths: Sequence[int],
        rows: Sequence[int],
        following: Sequence[Sequence[int]],
        cache: prompt_cache.Cache | None = None,
    ) -> torch.Tensor:
        """States (T, hidden size) of the tokens of prompts, then of what follows prompts of these lengths."""
        own = [number for number, tokens in enumerate(following) if tokens]
        layout = attention.layout(
            lengths,
            [rows[number] for number in own],
            [len(following[number]) for number in own],
            self.block,
            self.device,
            prompts_are_keys=not prompts,
        )
        ids = [token for tokens in (*prompts, *following) for token in tokens]
        positions = [at for prompt in prompts for at in range(len(prompt))]
        positions += [lengths[rows[i]] + at for i in own for at in range(len(following[i]))]
        context.check_length(self.name, max(positions) + 1, self.positions)
        return self.hidden(
            input_ids=self._there([ids]),
            attention_mask=torch.ones(attention.NO_MASK, dtype=torch.bool, device=self.device),
            position_ids=self._there([positions]),
            past_key_values=cache,
            use_cache=cache is not None,
            layout=layout,
        )[0]

    def _apart(
        self, prompts: Sequence[Sequence[int]], following: Sequence[Sequence[int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The plain path: R sequences, each computed with a prompt of its own; returns what `together` does."""
        ids, mask = pad([[*prompt, *after] for prompt, after in zip(prompts, following, strict=True)])
        context.check_length(self.name, ids.shape[1], self.positions)
        hidden = self.hidden(input_ids=ids.to(self.device), attention_mask=mask.to(self.device), use_cache=False)
        lengths = [len(prompt) for prompt in prompts]
        flat, width = hidden.flatten(0, 1), hidden.shape[1]
        ends = packing.places([length - 1 for length in lengths], [1] * len(prompts), width)
        real = packing.places(lengths, [len(after) for after in following], width)
        return flat.index_select(0, self._there(ends)), flat.index_select(0, self._there(real))

    # --- batches -----------------------------------------------------------------------------------------------

    def cost(self, prompts: Sequence[int], following: Sequence[Sequence[int]]) -> int:
        """Tokens that a pass holds: those of prompts and of what follows each, and for copied prompts KEYS_A_TOKEN.

        Args:
            prompts: lengths of B prompts.
            following: for each of them the lengths of what follows it.
        """
        if not self.shares_prompts:  # padded, and the prompt again and again
            own = [(prompt + max(after), len(after)) for prompt, after in zip(prompts, following, strict=True) if after]
            return max((length for length, _ in own), default=0) * sum(count for _, count in own)
        copied = sum(
            prompt * attention.copied_prompts(after, self.block)
            for prompt, after in zip(prompts, following, strict=True)
        )
        return sum(prompts) + sum(map(sum, following)) + copied // KEYS_A_TOKEN

    def passes(
        self, prompts: Sequence[tuple[int, ...]], following: Sequence[Sequence[int]], batch_tokens: int
    ) -> Iterator[Pass]:
        """Forward passes over R sequences, of which number i follows `prompts[i]`; equal prompts are computed once.

        The longest prompts come first, so that a run that would not fit into memory fails at once.

        Args:
            batch_tokens: what `cost` may be; where all that follows one prompt exceeds it, that is cut into parts.
        """
        if not self.shares_prompts:
            whole = [len(prompt) + len(after) for prompt, after in zip(prompts, following, strict=True)]
            for numbers in by_token_budget(whole, batch_tokens):
                ends, hidden = self._apart([prompts[i] for i in numbers], [following[i] for i in numbers])
                yield Pass(numbers, list(range(len(numbers))), ends, hidden)
            return
        numbers: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for number, prompt in enumerate(prompts):
            numbers[prompt].append(number)

        def cost(chosen: Sequence[tuple[int, ...]]) -> int:
            return self.cost([len(p) for p in chosen], [[len(following[i]) for i in numbers[p]] for p in chosen])

        for chosen in packing.fill(sorted(numbers, key=len, reverse=True), cost, batch_tokens):
            own = [(row, number) for row, prompt in enumerate(chosen) for number in numbers[prompt]]
            if cost(chosen) <= batch_tokens:
                rows, those = [row for row, _ in own], [number for _, number in own]
                yield Pass(those, rows, *self.together(chosen, rows, [following[number] for number in those]))
                continue
            state = self.encode_prompts(chosen)
            for those in self.parts(chosen, [(0, number, len(following[number])) for _, number in own], batch_tokens):
                rows = [0] * len(those)
                hidden = self.continued(state, rows, [following[number] for number in those])
                yield Pass(those, rows, state.ends, hidden)

    def parts(
        self, prompts: Sequence[Sequence[int]], following: Sequence[tuple[int, int, int]], batch_tokens: int
    ) -> Iterator[list[int]]:
        """Numbers of sequences that share a pass beside the prompts; each is given as (prompt, number, length)."""
        lengths = [len(prompt) for prompt in prompts]

        def cost(part: Sequence[tuple[int, int, int]]) -> int:
            of: list[list[int]] = [[] for _ in lengths]
            for row, _, length in part:
                of[row].append(length)
            return self.cost(lengths, of)

        for part in packing.fill(following, cost, batch_tokens):
            yield [number for _, number, _ in part]

    def _there(self, numbers: list) -> torch.Tensor:
        """On the model's device, without waiting for what that is computing."""
        return torch.tensor(numbers).to(self.device, non_blocking=True)


def _takes_attention(decoder: torch.nn.Module) -> bool:
    """Set the decoder's attention to that of `attention.py`, and say whether it took it."""
    if decoder.config._attn_implementation == "sdpa":
        decoder.set_attn_implementation(attention.NAME)
    return decoder.config._attn_implementation == attention.NAME
