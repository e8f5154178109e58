"""The files that training reads, made in a test: prompts, candidates, rewards, reference log-probs, and their join."""

from pathlib import Path

import numpy as np
import torch
from conftest import sentence

from hps.data import chat, examples, stages
from hps.data.schemas import CANDIDATES, PAIRS, PROMPTS, REFERENCE, SCORED
from hps.logprobs.scorer import Group, SequenceScorer
from hps.models.sources import load_causal, load_tokenizer
from hps.support import provenance
from hps.support.files import identity, read_table

SCHEMAS = {"pairs": PAIRS, "candidates": CANDIDATES, "scored": SCORED, "reference": REFERENCE, "prompts": PROMPTS}


def make(folder: Path, model_folder: Path, prompts: int = 6, n: int = 4) -> dict[str, str]:
    """Write the files for `prompts` prompts with n generated responses and the two human ones; returns their paths.

    `examples` is the folder that the others are joined in.
    """
    tokenizer = load_tokenizer(model_folder)
    model = load_causal(model_folder, dtype=torch.float32)
    scorer = SequenceScorer(model, 4096)
    rows: dict[str, list[dict]] = {name: [] for name in SCHEMAS}
    for number in range(prompts):
        prompt_id = f"{number:016x}"
        messages = [{"role": "user", "content": sentence(number, 3 + number % 4)}]
        texts = {("chosen", 0): sentence(number + 50, 4), ("rejected", 0): sentence(number + 60, 5)}
        texts |= {("generated", i): sentence(100 + number * n + i, 2 + (number + i) % 5) for i in range(n)}
        rows["pairs"].append(
            {
                "prompt_id": prompt_id,
                "messages": messages,
                "chosen": texts["chosen", 0],
                "rejected": texts["rejected", 0],
            }
        )
        group = Group(chat.prompt_ids(tokenizer, messages), [chat.response_ids(tokenizer, t) for t in texts.values()])
        rows["prompts"].append({"prompt_id": prompt_id, "ids": group.prompt})
        rewards = np.random.default_rng(number).normal(size=len(texts))
        (log_probs,) = scorer.score([group])
        for (origin, index), text, ids, reward, log_prob in zip(
            texts, texts.values(), group.responses, rewards, log_probs, strict=True
        ):
            key = {"prompt_id": prompt_id, "origin": origin, "index": index}
            rows["candidates"].append(key | {"response": text, "status": "ok", "tokens": len(ids)})
            rows["scored"].append(key | {"reward": float(reward), "true_reward": None})
            rows["reference"].append(key | {"log_prob": log_prob, "tokens": len(ids), "ids": ids})
    files = {name: str(folder / f"{name}.parquet") for name in SCHEMAS} | {"examples": str(folder / "examples")}
    vocabulary = str(model.get_input_embeddings().weight.shape[0])
    made_with = {"policy": provenance.identity(model_folder), "vocabulary": vocabulary}
    write(files, rows, made_with)
    return files


def write(files: dict[str, str], rows: dict[str, list[dict]], made_with: dict[str, str]) -> None:
    """Write all files as the stages would, each with what it was made from, and join them."""
    stages.write(files["pairs"], rows["pairs"], PAIRS)
    stages.write(files["candidates"], rows["candidates"], CANDIDATES, {"pairs": identity(files["pairs"])})
    made_from = {"candidates": identity(files["candidates"])}
    stages.write(files["scored"], rows["scored"], SCORED, made_from)
    for name in ("reference", "prompts"):
        stages.write(files[name], rows[name], SCHEMAS[name], made_from | made_with)
    join(files)


def change(files: dict[str, str], name: str, changes: dict[tuple, dict]) -> None:
    """Make the files again with other values: `changes` maps (prompt number, origin, index) to a row's new ones."""
    rows = {stage: read_table(files[stage]) for stage in SCHEMAS}
    for row in rows[name]:
        row.update(changes.get((int(row["prompt_id"], 16), row["origin"], row["index"]), {}))
    empty = {(r["prompt_id"], r["origin"], r["index"]) for r in rows["candidates"] if r["status"] == "empty"}
    for stage in ("scored", "reference"):
        rows[stage] = [r for r in rows[stage] if (r["prompt_id"], r["origin"], r["index"]) not in empty]
    made_with = examples.Examples(files["examples"]).made_from
    write(files, rows, {key: made_with[key] for key in ("policy", "vocabulary")})


def join(files: dict[str, str], out: str = "") -> None:
    shards = ([files[name]] for name in ("candidates", "scored", "reference", "prompts"))
    examples.join(out or files["examples"], files["pairs"], *shards)
