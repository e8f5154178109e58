"""What the tests of both clusters need: Snakemake in a copy of the checkout, and the jobs that it submitted."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cluster import run
from conftest import ROOT, python_environment

from hps.support.yaml_file import read_yaml

QUICK = bool(os.environ.get("QUICK"))
left_out_of_the_cut = pytest.mark.skipif(QUICK, reason="not in the cut; `make test-slurm` runs it")
CONFIG = "tests/slurm/quick.yaml" if QUICK else "tests/smoke.yaml"
N = 4 if QUICK else 8
RUNS = [f"dataset~hh_rlhf/method~dpo-{loss}_n~{N}_beta~0.1_seed~0" for loss in ("bt", "hps")]
LONG = ("--config", "training={epochs: 150, checkpoint_every: 10}")  # 300 steps
SOON = ("--slurm-init-seconds-before-status-checks", "3")  # the profile asks less often
PROFILE = read_yaml(ROOT / "slurm" / "config.yaml")
ENVIRONMENT = python_environment(HPS_DATA_DIR="", PYTHONUNBUFFERED="1")


def words(*more: str, config: str = CONFIG) -> list[str]:
    return [sys.executable, "-m", "snakemake", *more, "--configfile", config]


def snakemake(folder: Path, *more: str, check: bool = True, config: str = CONFIG) -> str:
    """Run it to its end; returns what it said."""
    command = words(*more, config=config)
    done = subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert not check or done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def start(folder: Path, *more: str, config: str = CONFIG) -> subprocess.Popen:
    """Start it in a process group of its own; what it says goes to said.log."""
    with (folder / "said.log").open("w") as said:
        return subprocess.Popen(
            words(*more, config=config), cwd=folder, env=ENVIRONMENT, stdout=said, stderr=said, start_new_session=True
        )


def until(ready, what: str, seconds: float = 300):
    """Wait for a condition; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := ready()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.2)
    return value


def rule_and_wildcards(comment: str) -> tuple[str, str]:
    """What a job's comment says; evaluate_1, evaluate_2, ... are the jobs of rule evaluate."""
    rule, _, wildcards = comment.removeprefix("rule_").partition("_wildcards_")
    return re.sub(r"^evaluate_\d+$", "evaluate", rule), wildcards


def jobs(folder: Path) -> list[dict[str, str]]:
    """The folder's jobs as the scheduler knows them, oldest first; `rule` and `wildcards` from the comment."""
    found = []
    for line in run("scontrol", "--oneliner", "--detail", "show", "job").splitlines():
        job = dict(re.findall(r"(\S+?)=(\S*)", line))
        if job.get("WorkDir") == str(folder) and "Comment" in job:
            job["rule"], job["wildcards"] = rule_and_wildcards(job["Comment"])
            found.append(job)
    return sorted(found, key=lambda job: int(job["JobId"]))
