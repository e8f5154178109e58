"""The judge at a real OpenAI-compatible server: `transformers serve` with a small model that has learnt to judge.

The model is overfitted to one reply that prefers whatever is read first: a judge that is all position bias.
"""

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import SCRIPTS, python_environment
from judge_files import command
from judge_server import scores

from hps.files import read_json, read_table
from hps.judge import prompt
from hps.judge.comparisons import read_policy, read_prompts

pytest.importorskip("fastapi", reason="`transformers serve` needs fastapi and uvicorn (requirements.txt)")
pytestmark = pytest.mark.workflow

REPLY = scores(4.5, 2.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Made-up evaluations, and a model that answers REPLY."""
    from hps.models.scratch import Shape, build_tokenizer, conversations, new_llama, pretrain
    from hps.models.sources import save

    folder = tmp_path_factory.mktemp("judge")
    command(folder)
    prompts = read_prompts(folder / "test.parquet")
    ours, theirs = (read_policy(folder / name, 1).samples for name in ("hps", "sft"))
    asked = []
    for prompt_id, conversation in prompts.items():
        pair = [side[prompt_id][0]["response"] for side in (ours, theirs)]
        asked += [prompt.messages(conversation, *pair), prompt.messages(conversation, *pair[::-1])]
    tokenizer = build_tokenizer([prompt.SYSTEM, REPLY, *(turns[1]["content"] for turns in asked)] * 3, 1000)
    model = new_llama(tokenizer, Shape(hidden=64, layers=2, intermediate=128, positions=1024), seed=0)
    rows = [{"messages": turns, "chosen": REPLY} for turns in asked]
    sequences = conversations(rows, tokenizer, "chosen")
    pretrain(model, sequences, epochs=12, learning_rate=1e-2, batch_tokens=2048, seed=0)
    save(folder / "model", model, tokenizer, {"role": "judge", "source": "scratch"})
    return folder


@pytest.fixture(scope="module")
def url(folder):
    """`transformers serve` on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder / "model")]
    log = (folder / "serve.log").open("w")
    process = subprocess.Popen(
        [*words, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        env=python_environment(),
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        for _ in range(600):
            assert process.poll() is None, (folder / "serve.log").read_text()
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def test_a_table_from_a_served_model(folder, url):
    variables = {"HPS_JUDGE_URL": url, "HPS_JUDGE_MODEL": str(folder / "model"), "HPS_JUDGE_KEY": "none"}
    words = [sys.executable, str(SCRIPTS / "judge.py"), *command(folder)]
    done = subprocess.run(words, env=python_environment(**variables), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (folder / "serve.log").read_text()[-3000:]
    facts = read_json(folder / "judge/judge.json")
    rows = read_table(folder / "judge/judgements.parquet")
    assert (facts["judgements"], facts["invalid"]) == (24, 0)
    assert facts["answers"] == sum(row["replies"] for row in rows)
    assert facts["tokens"] > 24 * 100
    for row in rows:
        read_first, read_second = ("method", "baseline") if row["method_first"] else ("baseline", "method")
        assert (row[f"{read_first}_score"], row[f"{read_second}_score"]) == (4.5, 2.0)
