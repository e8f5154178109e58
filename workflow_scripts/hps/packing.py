"""How sequences of unlike length share forward passes: within a budget of tokens, and with little padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np


def cut(items: Sequence[tuple[int, int]], budget: int, extra: int = 0) -> Iterator[list[int]]:
    """Cut (index, length) items, in order, into batches of at most `budget` padded tokens (one item at least).

    Each item takes `extra` beside the length to which it is padded.
    """
    batch: list[int] = []
    longest = 0
    for index, length in items:
        if batch and (max(longest, length) + extra) * (len(batch) + 1) > budget:
            yield batch
            batch, longest = [], 0
        batch.append(index)
        longest = max(longest, length)
    if batch:
        yield batch


def alike(lengths: Sequence[int], pass_tokens: float) -> list[list[int]]:
    """Numbers of sequences that share a pass, in the order given: each pass pads its sequences to its longest.

    Starting from one pass for all, a pass is split in two where that saves the most padding, as long as it saves more
    than the `pass_tokens` that a pass more costs.
    """
    order = np.argsort(lengths, kind="stable")
    ordered = np.asarray(lengths)[order]
    passes, waiting = [], [(0, len(ordered))]
    while waiting:
        start, end = waiting.pop()
        saved = np.arange(1, end - start) * (ordered[end - 1] - ordered[start : end - 1])
        if len(saved) and saved.max() > pass_tokens:
            middle = start + int(saved.argmax()) + 1
            waiting += [(middle, end), (start, middle)]
        else:
            passes.append(sorted(order[start:end].tolist()))
    return passes


def padded_tokens(lengths: Sequence[int], pass_tokens: float) -> int:
    """Tokens, padding included, that passes over `alike` sequences compute."""
    return sum(len(one) * max(lengths[i] for i in one) for one in alike(lengths, pass_tokens))


def places(starts: Sequence[int], lengths: Sequence[int], width: int) -> list[int]:
    """Row-major positions, in a (R, width) array, of `lengths[i]` entries of each row i from `starts[i]` on."""
    return [
        row * width + start + at
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True))
        for at in range(length)
    ]
