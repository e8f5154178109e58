"""From the stages' files to what training reads: prompts with n scored responses and their reference log-probs."""

from __future__ import annotations

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from hps import chat
from hps.errors import InputError
from hps.files import read_table
from hps.schemas import KEY


@dataclass(frozen=True)
class Example:
    """One prompt of training, with its responses in the order of the pool."""

    prompt_id: str
    prompt: list[int]  # token ids
    responses: list[list[int]]  # n token id lists, each ending in EOS
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

    Raises:
        InputError: a reward or reference log-prob is missing or not finite; names file and response.
    """
    rewards, log_probs = by_key(scored, "reward"), by_key(reference, "log_prob")
    usable = usable_statuses(pool.truncated)
    by_prompt: dict[str, list[dict]] = defaultdict(list)
    for path in candidates:
        for row in read_table(path, [*KEY, "response", "status"]):
            by_prompt[row["prompt_id"]].append(row)

    counts: Counter = Counter()
    examples = []
    for pair in read_table(pairs, ["prompt_id", "messages"]):
        counts["prompts read"] += 1
        prompt = chat.prompt_ids(tokenizer, pair["messages"])
        kept = []
        for row in _pool_order(by_prompt[pair["prompt_id"]], pool.human_first):
            key = tuple(row[name] for name in KEY)
            if row["status"] not in usable:
                counts[f"responses left out: {row['status']}"] += 1
                continue
            response = chat.response_ids(tokenizer, row["response"])
            if len(prompt) + len(response) > pool.max_length:
                counts["responses left out: too long"] += 1
                continue
            for what, values, files in (("reward", rewards, scored), ("log_prob", log_probs, reference)):
                if key not in values:
                    raise InputError(files[0] if files else what, f"no {what} for response {'/'.join(map(str, key))}")
            kept.append((response, rewards[key], log_probs[key]))
        kept = kept[: pool.n]
        if len(kept) < 2:
            counts["prompts dropped: fewer than two responses"] += 1
        elif len({reward for _, reward, _ in kept}) == 1:
            counts["prompts dropped: all rewards equal"] += 1
        else:
            counts["prompts with fewer than n responses"] += len(kept) < pool.n
            responses, kept_rewards, reference_values = zip(*kept, strict=True)
            examples.append(
                Example(pair["prompt_id"], prompt, list(responses), np.array(kept_rewards), np.array(reference_values))
            )
    counts["prompts trained on"] = len(examples)
    counts["responses trained on"] = sum(len(example.responses) for example in examples)
    logging.info("examples: %s", dict(counts))
    if not examples:
        raise InputError(pairs, f"no prompt is left to train on ({dict(counts)})")
    return examples, counts


def _pool_order(rows: list[dict], human_first: bool) -> list[dict]:
    """Chosen, rejected (if they take part), then the generated responses by number."""
    rank = {"chosen": 0, "rejected": 1, "generated": 2}
    taken = [row for row in rows if human_first or row["origin"] == "generated"]
    return sorted(taken, key=lambda row: (rank[row["origin"]], row["index"]))
