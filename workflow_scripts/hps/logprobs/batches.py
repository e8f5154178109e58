"""Batches of token sequences of unlike length with little padding, and what the training loops here share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hps.support.files import stable_hash


def by_token_budget(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of the sequences in batches of at most `budget` padded tokens, longest batch first.

    A batch holds sequences of like length, ties in the given order. A sequence longer than the budget is a batch of
    its own. Longest first, so that a run that would not fit into memory fails at once.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if not batches or (len(batches[-1]) + 1) * lengths[batches[-1][0]] > budget:
            batches.append([])
        batches[-1].append(index)
    return batches


def shuffled(batches: list[list[int]], generator: torch.Generator) -> list[list[int]]:
    """The batches in a random order."""
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def epoch_by_tokens(lengths: Sequence[int], budget: int, generator: torch.Generator) -> list[list[int]]:
    """One epoch of `by_token_budget` batches: random company among sequences of one length, random order."""
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = by_token_budget([lengths[i] for i in order], budget)
    return shuffled([[order[i] for i in batch] for batch in batches], generator)


def epoch_by_count(
    lengths: Sequence[int], size: int, generator: torch.Generator, bucket_batches: int = 16
) -> list[list[int]]:
    """One epoch of batches of `size` items each (one may be smaller), alike in length, in random order.

    Items are sorted within random buckets of `bucket_batches` batches, so that who meets whom differs between epochs.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches = []
    for start in range(0, len(order), size * bucket_batches):
        bucket = sorted(order[start : start + size * bucket_batches], key=lambda i: -lengths[i])
        batches += [bucket[i : i + size] for i in range(0, len(bucket), size)]
    return shuffled(batches, generator)


def pad(sequences: Sequence[Sequence[int]], device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Pad on the right: ids (B, T) int64 and mask (B, T) int64 with 1 on real tokens. No sequence may be empty.

    The id that fills up is 0; whoever computes with the batch goes by the mask, never by the id.
    """
    longest = max(map(len, sequences))
    ids = torch.tensor([[*sequence, *[0] * (longest - len(sequence))] for sequence in sequences], device=device)
    lengths = torch.tensor([len(sequence) for sequence in sequences], device=device)
    return ids, (torch.arange(longest, device=device) < lengths[:, None]).long()


def held_out(prompt_ids: Sequence[str], fraction: float, seed: int) -> set[str]:
    """About `fraction` of the distinct prompts, at least one: a choice by hash, so it does not depend on the order."""
    ranked = sorted(set(prompt_ids), key=lambda prompt_id: (stable_hash("held out", seed, prompt_id), prompt_id))
    return set(ranked[: max(1, round(fraction * len(ranked)))])


def cosine(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> torch.optim.lr_scheduler.LambdaLR:
    """Linear warm-up over the fraction `warmup` of the steps, then half a cosine to zero."""
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
