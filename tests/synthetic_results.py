"""Result folders as the workflow leaves them, with made-up numbers, for the tests of tables and figures."""

import json
from pathlib import Path
from typing import Any

import report as report_command
from hps.data.schemas import PER_PROMPT
from hps.support.files import identity, write_json, write_table

SIGNATURE = {"word": "nrefs:1|tok:13a|version:2.6.0", "char": "nrefs:1|tok:char|version:2.6.0"}
PROMPT = {
    "bleu_word": 0.2,
    "bleu_char": 0.5,
    "reward": 1.0,
    "reward_mean": 0.5,
    "true_reward": None,
    "harm": None,
    "refusals": 0.25,
    "needless_refusals": None,
    "length": 10.0,
    "log_ratio_chosen_human": 4.0,
    "margin_human": 1.0,
    "length_gap_human": 10.0,
    "log_ratio_chosen_annotated": 5.0,
    "margin_annotated": 2.0,
    "length_gap_annotated": -10.0,
    "kl": 3.0,
}
"""One prompt of an evaluation; tests change what they look at."""


def run(method="dpo-hps", dataset="hh_rlhf", n=100, beta=0.1, seed=0) -> dict:
    parameterization, loss = method.split("-")
    return {"dataset": dataset, "parameterization": parameterization, "loss": loss, "n": n, "beta": beta, "seed": seed}


def evaluation(folder: Path, of: dict | None, prompts: list[dict], test_set="hh_rlhf", **summary) -> Path:
    """A folder with evaluation.json and per_prompt.parquet; `prompts` are changes to PROMPT, one a prompt."""
    folder.mkdir(parents=True)
    without_margins = {name: None for name in PROMPT if "human" in name or "annotated" in name} if of is None else {}
    rows = [{"prompt_id": f"p{i:04d}"} | PROMPT | without_margins | prompt for i, prompt in enumerate(prompts)]
    write_table(folder / "per_prompt.parquet", rows, PER_PROMPT)
    write_json(
        folder / "evaluation.json",
        {
            "run": of,
            "responses": (of or {}).get("n"),
            "seed": (of or {}).get("seed", 0),
            "test_set": test_set,
            "bleu_signature": SIGNATURE,
            "harm": None,
            "per_prompt": identity(folder / "per_prompt.parquet"),
            "provenance": {},
        }
        | summary,
    )
    return folder


def training(folder: Path, of: dict, step_seconds=1.0, log: list[dict] | None = None, **summary) -> Path:
    """A folder with training.json and log.jsonl."""
    folder.mkdir(parents=True)
    values = {
        "run": of,
        "responses": of["n"],
        "seconds": 10.0,
        "step_seconds": step_seconds,
        "steps": 10,
        "tokens": 1000,
        "groups": 5,
    }
    write_json(folder / "training.json", values | {"counts": {}, "provenance": {}} | summary)
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in log or []), encoding="utf-8")
    return folder


def benchmark(path: Path, seconds: float, memory: str = "NA") -> Path:
    """A benchmark file as Snakemake writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = f"{seconds:.4f}\t0:00:00\t{memory}\t{seconds / 2:.2f}\n"
    path.write_text(f"s\th:m:s\tmax_rss\tcpu_time\n{row}", encoding="utf-8")
    return path


def configuration(folder: Path, **changes: Any) -> Path:
    """config.json with the keys that the report's parts read; `changes` by dotted key with __ for the dot."""
    values: dict[str, Any] = {
        "world": "real",
        "evaluation": {"bleu": "word", "margin_pair": "human"},
        "seeds": [0, 1, 2],
        "seeds_of": {},
        "claims": {"alpha": 0.05},
        "grid": {"n": 100},
        "objective": {"beta": 0.1, "multiplicity": "n_minus_1"},
        "ablations": {"dataset": "hh_rlhf", "over": {}},
        "attribution": {"reward": "dpo"},
        "models": {"policy": {"source": "scratch"}, "eval_reward": {"source": "trained"}},
        "candidates": {"truncated": "drop"},
        "theory": {"dimension": 3, "prompts": [40, 80], "responses": [2, 4], "repetitions": 2, "seed": 0},
    }
    for key, value in changes.items():
        *sections, last = key.split("__")
        section = values
        for name in sections:
            section = section[name]
        section[last] = value
    write_json(folder / "config.json", {"values": values, "origins": {}})
    return folder / "config.json"


def report(*words: object) -> None:
    """The report command, as from the command line."""
    report_command.main([str(word) for word in words])
