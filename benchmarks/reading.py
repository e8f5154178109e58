"""What reading costs a training before its first step: the candidates of a split, joined once and mapped into memory.

    python -m benchmarks.reading FOLDER make 10000 100      stage files of 10,000 prompts with 100 responses each
    python -m benchmarks.reading FOLDER join                what rule `examples` does, once a data set
    python -m benchmarks.reading FOLDER train               what every process of every training does

Each is a process of its own, and prints its seconds on a core and its memory as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import measure

SIZES = (2_500, 10_000)
"""Prompts, of RESPONSES each, that reading is measured at."""
RESPONSES = 100
TOKENS = 45
"""Tokens of a response, on average; a prompt has PROMPT."""
PROMPT = 126
VOCABULARY = 128_256
PAPER = 16_000_000
"""Responses of HH-RLHF at preset `paper`."""
STEP = 64
"""Prompts of the paper's batches."""


def reading(sizes: tuple[int, ...] = SIZES, responses: int = RESPONSES) -> list[dict[str, Any]]:
    """Seconds and memory of the join and of a training's reading at each size; at PAPER in proportion to the largest,
    which is more than it will be, since a process needs some for itself."""
    found: dict[str, list[dict[str, Any]]] = {"join": [], "train": []}
    for prompts in sizes:
        with tempfile.TemporaryDirectory() as folder:
            measure.in_child("benchmarks.reading", [folder, "make", str(prompts), str(responses)], threads=1)
            for what, entries in found.items():
                entries.append(measure.in_child("benchmarks.reading", [folder, what], threads=1))
    names = {
        "join": "rule examples: join and check all files, once a data set",
        "train": "a training: from its start to the responses of its first step (HPS)",
    }
    x = [prompts * responses for prompts in sizes]
    return [
        {
            "what": names[what],
            "responses": x,
            "prompts": list(sizes),
            **{key: [entry[key] for entry in entries] for key in ("seconds", "peak", "own")},
            "at_paper": {key: entries[-1][key] * PAPER / x[-1] for key in ("seconds", "peak", "own")},
        }
        for what, entries in found.items()
    ]


def make(folder: Path, prompts: int, responses: int) -> None:
    """Stage files of one shard with random tokens and rewards, as the stages write them."""
    import pyarrow as pa

    from hps.data.schemas import CANDIDATES, PAIRS, PROMPTS, REFERENCE, SCORED
    from hps.support.files import identity, write_arrow

    draw = np.random.default_rng(0)
    ids = np.array([f"{number:016x}" for number in range(prompts)])
    count = prompts * (responses + 2)
    key = {
        "prompt_id": np.repeat(ids, responses + 2),
        "origin": np.tile(["chosen", *["generated"] * responses, "rejected"], prompts),
        "index": np.tile([0, *range(responses), 0], prompts),
    }
    lengths = draw.integers(2, 2 * TOKENS - 1, count)
    ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    tokens = pa.ListArray.from_arrays(ends, pa.array(draw.integers(0, VOCABULARY, lengths.sum()), pa.int32()))
    prompt_ends = pa.array(np.arange(prompts + 1) * PROMPT, pa.int32())
    encoded = pa.ListArray.from_arrays(
        prompt_ends, pa.array(draw.integers(0, VOCABULARY, prompts * PROMPT), pa.int32())
    )
    message = pa.array([[{"role": "user", "content": "how do i bake"}]] * prompts, PAIRS.field("messages").type)

    def write(name: str, schema: pa.Schema, columns: dict, made_from: dict[str, str]) -> str:
        table = pa.table({field.name: pa.array(columns[field.name], field.type) for field in schema}, schema=schema)
        write_arrow(folder / f"{name}.parquet", table, made_from)
        return identity(folder / f"{name}.parquet")

    texts = {"chosen": ["mix flour"] * prompts, "rejected": ["mix water"] * prompts}
    texts |= dict.fromkeys(("chosen_harmful", "rejected_harmful"), [None] * prompts)
    pairs = write("pairs", PAIRS, {"prompt_id": ids, "messages": message, **texts}, {})
    texts = {"response": np.full(count, "mix"), "status": np.full(count, "ok"), "tokens": lengths}
    candidates = write("candidates", CANDIDATES, key | texts, {"pairs": pairs})
    made_from = {"candidates": candidates}
    rewards = {"reward": draw.normal(size=count), "true_reward": np.zeros(count)}
    write("scored", SCORED, key | rewards, made_from)
    made_from |= {"policy": "random", "vocabulary": str(VOCABULARY)}
    log_probs = {"log_prob": -draw.random(count), "tokens": lengths, "ids": tokens}
    write("reference", REFERENCE, key | log_probs, made_from)
    write("prompts", PROMPTS, {"prompt_id": ids, "ids": encoded}, made_from)


def join(folder: Path) -> None:
    from hps.data import examples

    stages = ([str(folder / f"{name}.parquet")] for name in ("candidates", "scored", "reference", "prompts"))
    examples.join(folder / "examples", str(folder / "pairs.parquet"), *stages)


def train(folder: Path) -> None:
    """Up to the token ids of the best and a drawn response of each prompt of a batch."""
    from hps.data.examples import Examples
    from hps.method import ranking
    from hps.method.sampling import draw_negative
    from hps.training.examples import Pool, TrainingExamples

    examples = TrainingExamples(Examples(folder / "examples"), Pool(100, "drop", False, 1024))
    for number in np.random.default_rng(0).permutation(len(examples))[:STEP]:
        example = examples[number]
        negative = draw_negative(example.rewards, 0.0, seed=0, epoch=0, prompt_id=example.prompt_id)
        assert example.responses[ranking.best(example.rewards)]
        assert example.responses[negative]


def main(folder: str, what: str, *sizes: str) -> None:
    import psutil

    started = time.process_time()
    {"make": make, "join": join, "train": train}[what](Path(folder), *map(int, sizes))
    seconds = time.process_time() - started
    memory = psutil.Process().memory_full_info()
    print(json.dumps({"seconds": seconds, "peak": measure.largest_resident_set(), "own": memory.uss}))


if __name__ == "__main__":
    main(*sys.argv[1:])
