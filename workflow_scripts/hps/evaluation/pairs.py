"""The pairs (y_1, y_2) that margins are taken on: the human pair, and the best and worst annotated response."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from hps.data import stages
from hps.data.schemas import CANDIDATES, KEY, LENGTHS, REFERENCE, SCORED
from hps.method import ranking
from hps.support.errors import InputError

PAIRS = ("human", "annotated")
"""The data set's own pair (chosen, rejected); the best and the worst by r_est of the prompt's generated responses."""


def find_pairs(
    prompt_id: str, rows: Iterable[Mapping], rewards: Mapping[tuple, float], usable: set[str]
) -> dict[str, tuple[tuple, tuple]]:
    """Pairs of one prompt as keys (origin, index) of its candidates; without an entry there is no such pair.

    Args:
        rows: the prompt's candidates, with `origin`, `index` and `status`.
        rewards: r_est by (prompt_id, origin, index).
        usable: how a generated response may have ended (`hps.training.examples.usable_statuses`).
    """
    status = {(row["origin"], row["index"]): row["status"] for row in rows if row["status"] != "empty"}
    found = {}
    if ("chosen", 0) in status and ("rejected", 0) in status:
        found["human"] = (("chosen", 0), ("rejected", 0))
    generated = [key for key in sorted(status) if key[0] == "generated" and status[key] in usable]
    scores = [rewards[(prompt_id, *key)] for key in generated]
    if ranking.compares(scores):
        found["annotated"] = (generated[ranking.best(scores)], generated[ranking.worst(scores)])
    return found


def human_gaps(lengths: str) -> np.ndarray:
    """|y_1| - |y_2| in tokens of the human pairs whose lengths a file has: (prompts,)."""
    rows = stages.rows(lengths, LENGTHS)
    return np.array([row["chosen"] - row["rejected"] for row in rows], dtype=np.float64)


def annotated_gaps(
    candidates: Sequence[str], scored: Sequence[str], reference: Sequence[str], usable: set[str]
) -> np.ndarray:
    """|y_1| - |y_2| in tokens of the policy's tokenizer, EOS included, of the annotated pairs: (prompts with one,).

    The arguments are the files of the stages, all shards of one test set. Raises InputError naming the file when a
    response has no reward or no length.
    """
    rewards, tokens = _by_key(scored, SCORED, "reward"), _by_key(reference, REFERENCE, "tokens")
    by_prompt: dict[str, list[dict]] = defaultdict(list)
    for path in candidates:
        for row in stages.rows(path, CANDIDATES):
            key = tuple(row[name] for name in KEY)
            if row["status"] != "empty" and (key not in rewards or key not in tokens):
                raise InputError(path, f"response {'/'.join(map(str, key))} has no reward or no reference log-prob")
            by_prompt[row["prompt_id"]].append(row)
    gaps = []
    for prompt_id, rows in sorted(by_prompt.items()):
        if pair := find_pairs(prompt_id, rows, rewards, usable).get("annotated"):
            first, second = (tokens[(prompt_id, *key)] for key in pair)
            gaps.append(first - second)
    return np.array(gaps, dtype=np.float64)


def _by_key(paths: Iterable[str], schema: pa.Schema, value: str) -> dict[tuple, float]:
    """One column of scored or reference files by response key."""
    return {tuple(row[name] for name in KEY): row[value] for path in paths for row in stages.rows(path, schema)}
