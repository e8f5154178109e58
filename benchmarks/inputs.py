"""Token ids to compute with: real preference pairs where the user has them, else random tokens of the same lengths."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hps.data.formats import FORMATS
from hps.support.files import stable_hash

if TYPE_CHECKING:
    from hps.data.chat import Message

FILES = {
    "hh_rlhf": ("hh-rlhf/harmless-base/test.jsonl.gz", "hh_rlhf", ""),
    "pku_saferlhf": ("pku-saferlhf/test.jsonl.gz", "pku_saferlhf", "better_response_id"),
}
"""Path below HPS_DATA_DIR, format and label of each data set's test file."""
LONGEST = 1000
"""Tokens of prompt and reply; longer pairs are left out, since TRL's default would cut them at 1024."""


@dataclass(frozen=True)
class Pair:
    """A prompt with a chosen and a rejected reply, as token ids; of a real one also the prompt's messages."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]
    messages: list[Message] | None = None

    @property
    def longest(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


def pairs(dataset: str, tokenizer, count: int) -> tuple[list[Pair], str]:
    """`count` pairs and where they come from: `real`, or `synthetic` without HPS_DATA_DIR.

    Real pairs are drawn at random, by a fixed seed, from the published test file.
    """
    folder = os.environ.get("HPS_DATA_DIR", "")
    if not folder:
        return synthetic(dataset, count, len(tokenizer)), "synthetic, with lengths like those of the real pairs"
    return real(dataset, tokenizer, count, Path(folder)), f"real ({FILES[dataset][0]})"


def real(dataset: str, tokenizer, count: int, folder: Path) -> list[Pair]:
    """Real pairs, without those above LONGEST or with a reply of nothing but an end."""
    from hps.data.chat import prompt_ids, response_ids
    from hps.data.formats import parser
    from hps.data.records import read, read_rows

    path, form, label = FILES[dataset]
    records, _ = read(read_rows(folder / path), parser(form, label))
    order = np.random.default_rng(stable_hash("bench", dataset)).permutation(len(records))
    found = []
    for record in (records[i] for i in order):
        pair = Pair(
            prompt_ids(tokenizer, record.messages),
            response_ids(tokenizer, record.chosen),
            response_ids(tokenizer, record.rejected),
            record.messages,
        )
        if pair.longest <= LONGEST:
            found.append(pair)
        if len(found) == count:
            return found
    raise ValueError(f"{folder / path} has {len(found)} pairs where {count} are wanted")


def synthetic(dataset: str, count: int, vocab: int) -> list[Pair]:
    """Random tokens whose lengths follow the deciles of the data set."""
    draw = np.random.default_rng(stable_hash("bench", dataset, "synthetic"))
    made, known = [], FORMATS[dataset].PUBLISHED
    while len(made) < count:
        deciles = (known.prompt_deciles, known.human_deciles, known.human_deciles)
        prompt, chosen, rejected = (tokens(draw, length(draw, values), vocab) for values in deciles)
        pair = Pair(prompt, chosen, rejected)
        if pair.longest <= LONGEST:
            made.append(pair)
    return made


def length(draw: np.random.Generator, deciles: tuple[int, ...]) -> int:
    """A length whose distribution has these deciles, linear between them."""
    return max(2, round(float(np.interp(draw.random(), np.linspace(0, 1, len(deciles)), deciles))))


def tokens(draw: np.random.Generator, count: int, vocab: int) -> list[int]:
    """Random token ids, without the first few, which are special in the tokenizers used here."""
    return draw.integers(min(20, vocab // 2), vocab, count).tolist()


def candidates(pair: Pair, others: list[Pair], n: int) -> list[list[int]]:
    """n responses of real lengths for a prompt: its own two, then the replies of other pairs, again from the first."""
    replies = [reply for other in others if other is not pair for reply in (other.chosen, other.rejected)]
    return list(itertools.islice(itertools.chain([pair.chosen, pair.rejected], itertools.cycle(replies)), n))


def middling(pairs: list[Pair]) -> Pair:
    """The pair whose prompt has the median length."""
    return sorted(pairs, key=lambda pair: len(pair.prompt))[len(pairs) // 2]
