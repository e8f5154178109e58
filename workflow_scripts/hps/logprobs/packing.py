"""How sequences of unlike length are cut into parts that fit a budget."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

HEAD_LOGITS = {"cpu": 2**23, "cuda": 2**25}
"""Entries of the logits that an output head makes at a time, by the kind of device: on a CPU few, which stay near the
processor (32 MiB in float32); on a GPU more, since each time reads all of the head's weights."""


def fill(items: Iterable[Item], cost: Callable[[list[Item]], int], budget: int) -> Iterator[list[Item]]:
    """Cut items, in order, into parts whose cost is within the budget; an item that alone exceeds it stands alone."""
    part: list[Item] = []
    for item in items:
        if part and cost([*part, item]) > budget:
            yield part
            part = []
        part.append(item)
    if part:
        yield part


def head_rows(vocabulary: int, device: str) -> int:
    """Positions of which an output head makes the logits at a time."""
    return max(1, HEAD_LOGITS.get(device, HEAD_LOGITS["cuda"]) // vocabulary)


def places(starts: Sequence[int], lengths: Sequence[int], width: int) -> list[int]:
    """Row-major positions, in a (R, width) array, of `lengths[i]` entries of each row i from `starts[i]` on."""
    return [
        row * width + start + at
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True))
        for at in range(length)
    ]
