"""Evaluations as the judge and the human study read them, made up, and a call of judge.py on them."""

from pathlib import Path

from hps.data.schemas import PAIRS, SAMPLES
from hps.runs import Run
from hps.support.files import identity, write_json, write_table


def policy(folder: Path, run: dict | None, texts: list[list[str]], test_set: str = "hh_rlhf") -> Path:
    """An evaluation's folder with these samples, a list a prompt."""
    rows = [
        {"prompt_id": f"p{i}", "index": j, "response": text, "status": "ok", "tokens": 3, "reward": 0.0}
        | {"true_reward": float(len(text)), "refusal": False, "bleu_word": 0.0, "bleu_char": 0.0}
        for i, own in enumerate(texts)
        for j, text in enumerate(own)
    ]
    write_table(folder / "samples.parquet", rows, SAMPLES)
    facts = {"run": run, "test_set": test_set, "samples": identity(folder / "samples.parquet")}
    write_json(folder / "evaluation.json", facts)
    return folder


HPS = Run("hh_rlhf", "dpo", "hps", n=8, beta=0.1, seed=0).record()


def command(folder: Path, prompts: int = 12) -> list[str]:
    """Words of a call of judge.py on made-up evaluations in `folder`."""
    ours = policy(folder / "hps", HPS, [["x" * (i % 4 + 1), "x"] for i in range(prompts)])
    theirs = policy(folder / "sft", None, [["yy", "y"] for _ in range(prompts)])
    pairs = [
        {"prompt_id": f"p{i}", "messages": [{"role": "user", "content": f"question {i}"}]}
        | {"chosen": "a", "rejected": "b"}
        for i in range(prompts)
    ]
    write_table(folder / "test.parquet", pairs, PAIRS)
    words = ["--test-sets", "hh_rlhf", "--pairs", folder / "test.parquet", "--methods", ours, "--baselines", theirs]
    words += ["--cache", folder / "cache", "--out", folder / "judge", "--retries", "1", "--concurrency", "2"]
    return [*map(str, words), "--source", "openai"]
