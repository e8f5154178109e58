"""What training reads of the joined candidates: each prompt with the n responses of its pool."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hps.data.examples import GENERATED, Examples, Responses
from hps.data.schemas import STATUSES
from hps.support.errors import InputError


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


class TrainingExamples(Sequence[Example]):
    """The prompts of a split that compare something, each made when it is asked for.

    A prompt's pool is its generated responses in order (the two human ones first with `human_first`); empty ones never
    count, truncated ones by `truncated`, and of what remains the first n are used. A prompt with fewer than two
    responses, or with nothing but equal rewards, compares nothing and is dropped. `counts` says what is left out, and
    why.

    Raises InputError when no prompt is left.
    """

    def __init__(self, joined: Examples, pool: Pool):
        self.joined = joined
        columns = joined.columns
        sizes = np.diff(joined.bounds)
        taken = (columns.origin == GENERATED) | pool.human_first
        usable = taken & np.isin(columns.status, [STATUSES.index(s) for s in usable_statuses(pool.truncated)])
        fits = usable & (np.repeat(joined.prompt_lengths, sizes) + columns.length <= pool.max_length)
        number = np.concatenate([[0], np.cumsum(fits)])
        before = number[joined.bounds]
        kept = fits & (number[1:] - np.repeat(before[:-1], sizes) <= pool.n)
        self._rows = np.flatnonzero(kept)
        self._bounds = np.concatenate([[0], np.cumsum(kept)])[joined.bounds]
        held = np.diff(self._bounds)
        enough = held >= 2
        rewards = columns.reward[self._rows]
        differ = np.zeros(len(joined), bool)
        if enough.any():
            first = self._bounds[:-1][held > 0]
            differ[held > 0] = np.minimum.reduceat(rewards, first) < np.maximum.reduceat(rewards, first)
        self._prompts = np.flatnonzero(enough & differ)
        counts = Counter({"prompts read": len(joined)})
        for code, status in enumerate(STATUSES):
            counts[f"responses left out: {status}"] = int((taken & ~usable & (columns.status == code)).sum())
        counts["responses left out: too long"] = int((usable & ~fits).sum())
        counts["prompts dropped: fewer than two responses"] = int((~enough).sum())
        counts["prompts dropped: all rewards equal"] = int((enough & ~differ).sum())
        counts["prompts with fewer than n responses"] = int((held[self._prompts] < pool.n).sum())
        counts = Counter({what: count for what, count in counts.items() if count})
        counts["prompts trained on"] = len(self._prompts)
        counts["responses trained on"] = int(held[self._prompts].sum())
        self.counts = counts
        logging.info("examples: %s", dict(counts))
        if not len(self._prompts):
            raise InputError(joined.folder, f"no prompt is left to train on ({dict(counts)})")

    def __len__(self) -> int:
        return len(self._prompts)

    def __getitem__(self, number: int) -> Example:
        prompt = self._prompts[number]
        rows = self._rows[self._bounds[prompt] : self._bounds[prompt + 1]]
        columns = self.joined.columns
        return Example(
            self.joined.prompt_id(prompt),
            self.joined.prompt(prompt),
            self.joined.responses(rows),
            columns.reward[rows],
            columns.log_prob[rows],
        )
