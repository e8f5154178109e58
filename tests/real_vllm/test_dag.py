"""The workflow with vLLM: a cut-down DAG whose responses are all sampled by it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, python_environment

from hps.support.files import read_json

pytest.importorskip("vllm")
CONFIG = ["--configfile", "tests/slurm/quick.yaml", "--config", "compute={generation: vllm}"]


@pytest.mark.workflow
def test_the_cut_down_dag_with_vllm(tmp_path):
    left_out = shutil.ignore_patterns(".git", ".venv*", ".snakemake", "results", "__pycache__", ".*_cache")
    folder = Path(shutil.copytree(ROOT, tmp_path / "checkout", ignore=left_out))
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", "all", *CONFIG],
        cwd=folder,
        env=python_environment(HPS_DATA_DIR=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    results = folder / "results" / "tiny"
    assert (results / "report.html").is_file()
    sampled = [*results.glob("candidates/**/*.json"), *results.glob("evaluations/**/evaluation.json")]
    assert len(sampled) > 5
    for path in sampled:
        made = read_json(path)["provenance"]
        assert (made["settings"]["generation"], "vllm" in str(made["packages"])) == ("vllm", True), path
