"""The workflow with vLLM, as far as the rules that sample: no other knows what did."""

import subprocess
import sys

import pytest
from conftest import copied_checkout, python_environment

from hps.support.files import read_json

pytest.importorskip("vllm")
EVALUATED = "results/tiny/evaluations/dataset~hh_rlhf/method~dpo-hps_n~4_beta~0.1_seed~0"
CONFIG = ["--configfile", "tests/slurm/quick.yaml", "--config", "compute={generation: vllm}"]


@pytest.mark.workflow
def test_from_the_toy_world_to_an_evaluated_policy(tmp_path):
    folder = copied_checkout(tmp_path / "checkout")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "2", EVALUATED, *CONFIG],
        cwd=folder,
        env=python_environment(HPS_DATA_DIR=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    sampled = [*folder.glob("results/tiny/candidates/**/*.json"), *(folder / EVALUATED).glob("*/evaluation.json")]
    assert len(sampled) == 3  # of training prompts, of test prompts, and the policy's own
    for path in sampled:
        made = read_json(path)["provenance"]
        assert (made["settings"]["generation"], "vllm" in made["installed"]) == ("vllm", True), path
