"""The split by prompt: what each stage may see, decided by a hash of the prompt and not by the order of a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hps.data.records import Comparison
from hps.support.errors import InputError
from hps.support.files import stable_hash

SPLITS = ("test", "reward", "eval_reward", "sft", "train")
"""In the order in which they draw: what is left over goes to the later ones."""


@dataclass(frozen=True)
class SplitRequest:
    """How many prompts a split draws, and from which part of the data set (the train or the test files)."""

    part: str
    prompts: int | None
    """None: all that remain."""


def split(
    parts: Mapping[str, Sequence[Comparison]],
    requests: Mapping[str, SplitRequest],
    *,
    seed: int,
    max_prompt_chars: int | None = None,
    max_response_chars: int | None = None,
    train_from_fraction: float = 0.0,
    read: Mapping[str, Mapping[str, int]] | None = None,
) -> tuple[dict[str, list[Comparison]], dict[str, Counter]]:
    """Draw the splits, disjoint by prompt, each in the order of `stable_hash(seed, prompt_id)`.

    A prompt that repeats within a part keeps its first comparison. Which prompts a split gets depends on the seed and
    on the set of prompts alone, not on their order in the files; only `train_from_fraction` looks at that.

    Args:
        parts: the comparisons of each part, in file order.
        requests: one for each of SPLITS.
        max_prompt_chars: prompts with more characters (all turns together) are left out.
        max_response_chars: prompts of which either reply has more characters are left out.
        train_from_fraction: in [0, 1): the split `train` takes only comparisons that stand in the part it draws from
            after this fraction of them (the released code generates for `train[60%:]`).
        read: what was counted when the parts were read (`records.read`), for messages.

    Returns:
        The comparisons of each split, one a prompt; and for each part the counts `comparisons` = `prompts` + every
        `left out: <reason>`.

    Raises:
        InputError: fewer prompts than asked for, or none where all that remain were asked for; says why rows and
            prompts were dropped.
    """
    if not 0 <= train_from_fraction < 1:
        raise InputError("train_from_fraction", f"must be at least 0 and below 1, not {train_from_fraction}")
    usable, counts = {}, {}
    for part, comparisons in parts.items():
        usable[part], counts[part] = _usable(comparisons, max_prompt_chars, max_response_chars)
    taken: set[str] = set()
    splits = {}
    for name in SPLITS:
        request = requests[name]
        start = _start(len(parts.get(request.part, ())), train_from_fraction if name == "train" else 0.0)
        pool = [
            comparison
            for position, comparison in usable.get(request.part, ())
            if position >= start and comparison.prompt_id not in taken
        ]
        counted = {**(read or {}).get(request.part, {}), **counts.get(request.part, {}), "in other splits": len(taken)}
        splits[name] = _draw(name, request, pool, seed, counted)
        taken.update(comparison.prompt_id for comparison in splits[name])
    return splits, counts


def _usable(
    comparisons: Sequence[Comparison], max_prompt_chars: int | None, max_response_chars: int | None
) -> tuple[list[tuple[int, Comparison]], Counter]:
    """The comparisons that may be drawn, each with its position, and the counts."""
    counts = Counter(comparisons=len(comparisons))
    seen: set[str] = set()
    usable = []
    for position, comparison in enumerate(comparisons):
        prompt_chars = sum(len(message["content"]) for message in comparison.messages)
        response_chars = max(len(comparison.chosen), len(comparison.rejected))
        if comparison.prompt_id in seen:
            counts["left out: prompt seen before"] += 1
        elif max_prompt_chars is not None and prompt_chars > max_prompt_chars:
            counts["left out: prompt too long"] += 1
        elif max_response_chars is not None and response_chars > max_response_chars:
            counts["left out: reply too long"] += 1
        else:
            usable.append((position, comparison))
        seen.add(comparison.prompt_id)
    counts["prompts"] = len(usable)
    return usable, counts


def _start(length: int, fraction: float) -> int:
    """The first position at or after `fraction` of `length`, rounded as the slice `train[60%:]` is."""
    return round(fraction * length)


def _draw(
    name: str, request: SplitRequest, pool: list[Comparison], seed: int, counted: Mapping[str, int]
) -> list[Comparison]:
    wanted = request.prompts
    if wanted == 0:
        return []
    if len(pool) < (wanted or 1):
        why = ", ".join(f"{what}: {count}" for what, count in counted.items() if not what.startswith("noted"))
        asked = "all that remain" if wanted is None else f"{wanted} prompts"
        raise InputError(
            f"data.splits.{name}.prompts (--{name.replace('_', '-')}-prompts)",
            f"asks for {asked} of the {request.part} files, where {len(pool)} are left for it ({why})",
        )
    pool = sorted(pool, key=lambda comparison: (stable_hash(seed, comparison.prompt_id), comparison.prompt_id))
    return pool[:wanted]
