"""A small model that has learnt to judge, fetched from a hub as `snakemake pin` and `fetch` do, and its server."""

import json
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from conftest import ROOT, python_environment
from hub_server import COMMIT, Repo, serving
from judge_files import command

from hps.judge import prompt
from hps.judge.comparisons import read_policy, read_prompts
from hps.models import hub_lock
from hps.models.shape import Shape

NAME = f"owner/judge@{COMMIT}"


def fetched(folder: Path, reply: str, heads: int = 4) -> None:
    """Fill `folder`: evaluations made up, `fetched`, a model that answers `reply` to each of their pairs, and its lock.

    Args:
        heads: attention heads of a model of width 64.
    """
    from hps.models.scratch import build_tokenizer, conversations, new_llama, pretrain
    from hps.models.sources import save

    command(folder)
    prompts = read_prompts(folder / "test.parquet")
    ours, theirs = (read_policy(folder / name, 1).samples for name in ("hps", "sft"))
    asked = []
    for prompt_id, conversation in prompts.items():
        pair = [side[prompt_id][0]["response"] for side in (ours, theirs)]
        asked += [prompt.messages(conversation, *pair), prompt.messages(conversation, *pair[::-1])]
    tokenizer = build_tokenizer([prompt.SYSTEM, reply, *(turns[1]["content"] for turns in asked)] * 3, 1000)
    model = new_llama(tokenizer, Shape(hidden=64, layers=2, heads=heads, intermediate=128, positions=1024), seed=0)
    rows = [{"messages": turns, "chosen": reply} for turns in asked]
    sequences = conversations(rows, tokenizer, "chosen")
    pretrain(model, sequences, epochs=12, learning_rate=1e-2, batch_tokens=2048, seed=0)
    save(folder / "model", model, tokenizer, {"role": "judge", "source": "scratch"})
    wanted = {"kind": "model", "repo": "owner/judge", "revision": "", "patterns": hub_lock.MODEL_FILES}
    source = ["--role", "judge", "--source", "hub", "--repo", "owner/judge", "--lock", folder / "lock.yaml"]
    with serving({"owner/judge": Repo.of(folder / "model")}) as hub:
        for words in (
            ["pin.py", "--wanted", json.dumps([wanted]), "--lock", folder / "lock.yaml"],
            ["fetch_model.py", *source, "--out", folder / "fetched"],
        ):
            done = hub.run(*words, cache=folder / "cache")
            assert done.returncode == 0, done.stderr


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def script(*words: object) -> list[str]:
    """A call of slurm/serve_judge.sh."""
    return ["sh", str(ROOT / "slurm" / "serve_judge.sh"), *map(str, words)]


@contextmanager
def served(log: Path, port: int, *words: object, **environment: str) -> Iterator[str]:
    """The URL of what slurm/serve_judge.sh serves at `port`, from when it answers to the end of the block."""
    with log.open("w") as said:
        env = python_environment(**environment)
        process = subprocess.Popen(script(*words), cwd=ROOT, env=env, stdout=said, stderr=subprocess.STDOUT)
        try:
            while not _answers(port):
                assert process.poll() is None, log.read_text()[-6000:]
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(60)


def _answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
    except OSError:
        return False
    return True
