"""The judge at a real OpenAI-compatible server: `transformers serve` with a small model that has learnt to judge.

The model is overfitted to one reply that prefers whatever is read first: a judge that is all position bias. It is
pinned and fetched from a hub as `snakemake pin` and `fetch` do, and served by slurm/serve_judge.sh, where a script that
calls `transformers serve` stands in for `vllm`.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPTS, python_environment
from hub_server import COMMIT
from judge_files import command
from judge_server import scores
from served_judge import NAME, fetched, free_port, script, served

from hps.support.files import read_json, read_table

pytest.importorskip("fastapi", reason="`transformers serve` needs fastapi and uvicorn (requirements.txt)")
pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Made-up evaluations, and a fetched model that prefers what it reads first."""
    folder = tmp_path_factory.mktemp("judge")
    fetched(folder, scores(4.5, 2.0))
    return folder


SERVER = """#!/bin/sh
# The calls that `vllm serve FOLDER --served-model-name {name} ...` stands for: the folder goes by that name.
printf '%s\\n' "HF_HUB_OFFLINE=$HF_HUB_OFFLINE" "$@" > {folder}/vllm.txt
mkdir -p {folder}/served/owner
ln -s "$(realpath "$2")" {folder}/served/owner/judge
cd {folder}/served
exec {python} -m transformers.cli.transformers serve {name} --host 127.0.0.1 --port {port} --device cpu
"""


@pytest.fixture(scope="module")
def url(folder):
    """slurm/serve_judge.sh with a `vllm` of the test's own on the path, whose server listens on a free port."""
    port = free_port()
    (folder / "bin").mkdir()
    (folder / "bin" / "vllm").write_text(SERVER.format(name=NAME, folder=folder, python=sys.executable, port=port))
    (folder / "bin" / "vllm").chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    with served(folder / "serve.log", port, folder / "fetched", "--seed", "1", PATH=path) as url:
        yield url


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
    assert words[-4:] == ["--port", "8000", "--seed", "1"]


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
    done = subprocess.run(script(model), cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{says.format(model=model)}\n")
