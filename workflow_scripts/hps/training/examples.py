"""From the stages' files to what training reads: prompts with n scored responses and their reference log-probs."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from hps.data import chat
from hps.data.schemas import KEY
from hps.support.errors import InputError
from hps.support.files import read_arrow, read_table


class Responses(Sequence[list[int]]):
    """Token ids of the n responses to a prompt, each ending in EOS.

    A list of integers takes nine times their memory, and 100 responses to each prompt of HH-RLHF have four thousand
    million: a response becomes a list when it is asked for.

    Args:
        tokens: those of all responses one after another, (T,) int32.
        ends: where each response ends in `tokens`, after the place where the first one begins, (n + 1,).
    """

    def __init__(self, tokens: np.ndarray, ends: np.ndarray):
        self.tokens = tokens
        self.ends = ends

    @classmethod
    def of(cls, responses: Sequence[Sequence[int]]) -> Responses:
        tokens = np.array([token for response in responses for token in response], dtype=np.int32)
        return cls(tokens, np.cumsum([0, *map(len, responses)]))

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each response, (n,)."""
        return np.diff(self.ends)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, number: int) -> list[int]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self.tokens[self.ends[number] : self.ends[number + 1]].tolist()


@dataclass(frozen=True)
class Example:
    """One prompt of training, with its responses in the order of the pool."""

    prompt_id: str
    prompt: list[int]  # token ids
    responses: Responses  # n of them
    rewards: np.ndarray  # (n,) float64, r_est
    reference: np.ndarray  # (n,) float64, log pi_ref(y_i | x), nats


@dataclass(frozen=True)
class Pool:
    """Which of a prompt's responses may be trained on."""

    n: int
    truncated: str  # drop, keep
    human_first: bool
    max_length: int  # tokens of prompt and response


def usable_statuses(truncated: str) -> set[str]:
    """How a response may have ended to be trained on or be in a pair: empty never, truncated where they are kept."""
    return {"ok", "truncated"} if truncated == "keep" else {"ok"}


def by_key(paths: Iterable[str], value: str) -> dict[tuple, float]:
    """One column of scored or reference files by response key. Raises InputError for a value that is no number."""
    found = {}
    for path in paths:
        for number, row in enumerate(read_table(path, [*KEY, value])):
            if row[value] is None or not math.isfinite(row[value]):
                raise InputError(f"{path}: row {number}", f"{value} is {row[value]}, not a finite number")
            found[tuple(row[name] for name in KEY)] = row[value]
    return found


def read_examples(
    tokenizer, pairs: str, candidates: Sequence[str], scored: Sequence[str], reference: Sequence[str], pool: Pool
) -> tuple[list[Example], Counter]:
    """Join the stages' files into examples, and count what is left out and why.

    A prompt's pool is its generated responses in order (the two human ones first with `human_first`); empty ones
    never count, truncated ones by `truncated`, and of what remains the first n are used. A prompt with fewer than two
    responses, or with nothing but equal rewards, compares nothing and is dropped.

    Args:
        candidates, scored, reference: the files of the stages, shard by shard in the same order.

    Raises:
        InputError: a reward or reference log-prob is missing or not finite; names file and response.
    """
    prompts = {
        pair["prompt_id"]: chat.prompt_ids(tokenizer, pair["messages"])
        for pair in read_table(pairs, ["prompt_id", "messages"])
    }
    counts: Counter = Counter({"prompts read": len(prompts)})
    found: dict[str, Example] = {}
    for files in zip(candidates, scored, reference, strict=True):
        found |= {example.prompt_id: example for example in _read_shard(prompts, *files, pool, counts)}
    examples = []
    for prompt_id in prompts:
        example = found.get(prompt_id)
        if example is None or len(example.responses) < 2:
            counts["prompts dropped: fewer than two responses"] += 1
        elif len(np.unique(example.rewards)) == 1:
            counts["prompts dropped: all rewards equal"] += 1
        else:
            counts["prompts with fewer than n responses"] += len(example.responses) < pool.n
            examples.append(example)
    counts["prompts trained on"] = len(examples)
    counts["responses trained on"] = sum(len(example.responses) for example in examples)
    logging.info("examples: %s", dict(counts))
    if not examples:
        raise InputError(pairs, f"no prompt is left to train on ({dict(counts)})")
    return examples, counts


def _read_shard(
    prompts: Mapping[str, list[int]], candidates: str, scored: str, reference: str, pool: Pool, counts: Counter
) -> Iterator[Example]:
    """The examples of one shard, also those that compare nothing; only what they hold stays in memory."""
    usable = usable_statuses(pool.truncated)
    rewards, log_probs = by_key([scored], "reward"), by_key([reference], "log_prob")
    rows = {key: number for number, key in enumerate(log_probs)}
    ids = read_arrow(reference, ["ids"])["ids"].combine_chunks()
    if len(rows) != len(ids):
        raise InputError(reference, "names a response twice")
    lengths = np.diff(ids.offsets.to_numpy())
    by_prompt: dict[str, list[dict]] = defaultdict(list)
    for row in read_table(candidates, [*KEY, "status"]):
        by_prompt[row["prompt_id"]].append(row)

    kept: dict[str, list[tuple]] = {}
    for prompt_id, responses in by_prompt.items():
        if prompt_id not in prompts:
            continue
        own = []
        for row in _pool_order(responses, pool.human_first):
            key = tuple(row[name] for name in KEY)
            if row["status"] not in usable:
                counts[f"responses left out: {row['status']}"] += 1
                continue
            for what, values, file in (("reward", rewards, scored), ("log_prob", log_probs, reference)):
                if key not in values:
                    raise InputError(file, f"no {what} for response {'/'.join(map(str, key))}")
            if len(prompts[prompt_id]) + lengths[rows[key]] > pool.max_length:
                counts["responses left out: too long"] += 1
                continue
            own.append(key)
        if own:
            kept[prompt_id] = own[: pool.n]

    chosen = ids.take(pa.array([rows[key] for keys in kept.values() for key in keys], pa.int64()))
    tokens, ends = chosen.values.to_numpy(), chosen.offsets.to_numpy()
    start = 0
    for prompt_id, keys in kept.items():
        yield Example(
            prompt_id,
            prompts[prompt_id],
            Responses(tokens, ends[start : start + len(keys) + 1]),
            np.array([rewards[key] for key in keys]),
            np.array([log_probs[key] for key in keys]),
        )
        start += len(keys)


def _pool_order(rows: list[dict], human_first: bool) -> list[dict]:
    """Chosen, rejected (if they take part), then the generated responses by number."""
    rank = {"chosen": 0, "rejected": 1, "generated": 2}
    taken = [row for row in rows if human_first or row["origin"] == "generated"]
    return sorted(taken, key=lambda row: (rank[row["origin"]], row["index"]))
