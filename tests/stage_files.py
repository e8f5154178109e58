"""The files that training reads, made in a test: prompts, candidates, rewards and reference log-probs."""

from pathlib import Path

import numpy as np
import torch
from conftest import sentence

from hps.data import chat
from hps.data.schemas import CANDIDATES, PAIRS, REFERENCE, SCORED
from hps.logprobs.scorer import Group, SequenceScorer
from hps.models.sources import load_causal, load_tokenizer
from hps.support.files import write_table


def make(folder: Path, model_folder: Path, prompts: int = 6, n: int = 4) -> dict[str, str]:
    """Write the four files for `prompts` prompts with n generated responses and the two human ones; returns paths."""
    tokenizer = load_tokenizer(model_folder)
    scorer = SequenceScorer(load_causal(model_folder, dtype=torch.float32), 4096)
    pairs, candidates, scored, reference = [], [], [], []
    for number in range(prompts):
        prompt_id = f"{number:016x}"
        messages = [{"role": "user", "content": sentence(number, 3 + number % 4)}]
        texts = {("chosen", 0): sentence(number + 50, 4), ("rejected", 0): sentence(number + 60, 5)}
        texts |= {("generated", i): sentence(100 + number * n + i, 2 + (number + i) % 5) for i in range(n)}
        pairs.append(
            {
                "prompt_id": prompt_id,
                "messages": messages,
                "chosen": texts["chosen", 0],
                "rejected": texts["rejected", 0],
            }
        )
        group = Group(chat.prompt_ids(tokenizer, messages), [chat.response_ids(tokenizer, t) for t in texts.values()])
        rewards = np.random.default_rng(number).normal(size=len(texts))
        (log_probs,) = scorer.score([group])
        for (origin, index), text, ids, reward, log_prob in zip(
            texts, texts.values(), group.responses, rewards, log_probs, strict=True
        ):
            key = {"prompt_id": prompt_id, "origin": origin, "index": index}
            candidates.append(key | {"response": text, "status": "ok", "tokens": len(ids)})
            scored.append(key | {"reward": float(reward), "true_reward": None})
            reference.append(key | {"log_prob": log_prob, "tokens": len(ids), "ids": ids})
    files = {}
    for name, rows, schema in (
        ("pairs", pairs, PAIRS),
        ("candidates", candidates, CANDIDATES),
        ("scored", scored, SCORED),
        ("reference", reference, REFERENCE),
    ):
        files[name] = str(folder / f"{name}.parquet")
        write_table(files[name], rows, schema)
    return files
