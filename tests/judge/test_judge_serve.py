"""The judge at a real OpenAI-compatible server: `transformers serve` with a small model that has learnt to judge.

The model is overfitted to one reply that prefers whatever is read first: a judge that is all position bias. It is
pinned and fetched from a hub as `snakemake pin` and `fetch` do, and served by slurm/serve_judge.sh, where a script that
calls `transformers serve` stands in for `vllm`.
"""

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPTS, python_environment
from hub_server import COMMIT, Repo, serving
from judge_files import command
from judge_server import scores

from hps.judge import prompt
from hps.judge.comparisons import read_policy, read_prompts
from hps.models import hub_lock
from hps.support.files import read_json, read_table

pytest.importorskip("fastapi", reason="`transformers serve` needs fastapi and uvicorn (requirements.txt)")
pytestmark = pytest.mark.workflow

REPLY = scores(4.5, 2.0)
NAME = f"owner/judge@{COMMIT}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Made-up evaluations, and `fetched`, from a hub: a model that answers REPLY."""
    from hps.models.scratch import build_tokenizer, conversations, new_llama, pretrain
    from hps.models.shape import Shape
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
    wanted = {"kind": "model", "repo": "owner/judge", "revision": "", "patterns": hub_lock.MODEL_FILES}
    source = ["--role", "judge", "--source", "hub", "--repo", "owner/judge", "--lock", folder / "lock.yaml"]
    with serving({"owner/judge": Repo.of(folder / "model")}) as hub:
        for words in (
            ["pin.py", "--wanted", json.dumps([wanted]), "--lock", folder / "lock.yaml"],
            ["fetch_model.py", *source, "--out", folder / "fetched"],
        ):
            done = hub.run(*words, cache=folder / "cache")
            assert done.returncode == 0, done.stderr
    return folder


SERVER = """#!/bin/sh
# The calls that `vllm serve FOLDER --served-model-name {name} ...` stands for: the folder goes by that name.
printf '%s\\n' "HF_HUB_OFFLINE=$HF_HUB_OFFLINE" "$@" > {folder}/vllm.txt
mkdir -p {folder}/served/owner
ln -s "$(realpath "$2")" {folder}/served/owner/judge
cd {folder}/served
exec {python} -m transformers.cli.transformers serve {name} --host 127.0.0.1 --port {port} --device cpu
"""


def serve_judge(folder: Path, *words: object) -> list[str]:
    """slurm/serve_judge.sh, with a `vllm` of the test's own on the path."""
    return ["env", f"PATH={folder / 'bin'}:{os.environ['PATH']}", "sh", "slurm/serve_judge.sh", *map(str, words)]


@pytest.fixture(scope="module")
def url(folder):
    """slurm/serve_judge.sh, whose server listens on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "bin").mkdir()
    (folder / "bin" / "vllm").write_text(SERVER.format(name=NAME, folder=folder, python=sys.executable, port=port))
    (folder / "bin" / "vllm").chmod(0o755)
    log = (folder / "serve.log").open("w")
    process = subprocess.Popen(
        serve_judge(folder, folder / "fetched"),
        cwd=ROOT,
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
    export = (folder / "serve.log").read_text().splitlines()[0]
    said = re.fullmatch(r"export HPS_JUDGE_URL=http://\S+:8000/v1 HPS_JUDGE_MODEL=(\S+) HPS_JUDGE_KEY=none", export)
    assert said[1] == NAME
    variables = {"HPS_JUDGE_URL": url, "HPS_JUDGE_MODEL": said[1], "HPS_JUDGE_KEY": "none"}
    words = [sys.executable, str(SCRIPTS / "judge.py"), *command(folder), "--lock", str(folder / "lock.yaml")]
    done = subprocess.run(words, env=python_environment(**variables), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (folder / "serve.log").read_text()[-3000:]
    facts = read_json(folder / "judge/judge.json")
    rows = read_table(folder / "judge/judgements.parquet")
    assert (facts["judgements"], facts["invalid"]) == (24, 0)
    assert (facts["model"], facts["commit"]) == (NAME, COMMIT)
    assert facts["answers"] == 1 + sum(row["replies"] for row in rows)  # one small question first
    assert facts["tokens"] > 24 * 100
    for row in rows:
        read_first, read_second = ("method", "baseline") if row["method_first"] else ("baseline", "method")
        assert (row[f"{read_first}_score"], row[f"{read_second}_score"]) == (4.5, 2.0)


def test_the_server_is_given_the_fetched_folder_and_no_network(folder, url):
    words = (folder / "vllm.txt").read_text().split()
    assert words[:5] == ["HF_HUB_OFFLINE=1", "serve", str(folder / "fetched"), "--served-model-name", NAME]
    assert words[5:7] == ["--tensor-parallel-size", "4"]


def test_the_server_answers_to_no_other_name(folder, url):
    """Why the commit in the name can be believed."""
    variables = {"HPS_JUDGE_URL": url, "HPS_JUDGE_MODEL": "owner/judge", "HPS_JUDGE_KEY": "none"}
    words = [*command(folder), "--cache", str(folder / "other_cache"), "--out", str(folder / "other")]
    done = subprocess.run(
        [sys.executable, str(SCRIPTS / "judge.py"), *words],
        env=python_environment(**variables),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "it refuses a first small request: HTTP 4" in done.stderr
    assert not (folder / "other").exists()


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (None, "error: {model}: no fetched model; `snakemake --cores 1 fetch` (with its --config) downloads it"),
        ({"source": "path"}, "error: {model}/model.json: names no repository and commit of the hub"),
    ],
)
def test_without_a_fetched_model_no_server_starts(tmp_path, facts, says):
    model = tmp_path / "model"
    if facts is not None:
        model.mkdir()
        (model / "model.json").write_text(json.dumps(facts))
    done = subprocess.run(serve_judge(tmp_path, model), cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{says.format(model=model)}\n")
