"""The profile for clusters: every rule that is sent there has its resources, and they are what the workflow uses."""

import re

import pytest
from conftest import ROOT, called, python_environment

from hps.support.yaml_file import read_yaml

PROFILE = read_yaml(ROOT / "slurm" / "config.yaml")
RESOURCES = PROFILE["set-resources"]
WITHOUT_GPU = {"scratch_model", "judge", "examples"}

RULES = """
import sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={"all"})) as api:
    settings = ConfigSettings(config={"preset": sys.argv[1]})
    workflow = api.workflow(ResourceSettings(), config_settings=settings, snakefile=Path("Snakefile"))._workflow
    print(*(rule.name for rule in workflow.rules if not (rule.norun or rule.name in workflow._localrules)))
"""


def rules_for_the_cluster(preset: str) -> set[str]:
    """Names of the rules that are not local under a preset."""
    done = called("-c", RULES, preset, env=python_environment(HPS_DATA_DIR=""))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def gpus(rule: str) -> int:
    """GPUs a job of the rule asks for."""
    return int(RESOURCES[rule].get("gres", "gpu:l40s:0").rpartition(":")[2])


@pytest.mark.parametrize("preset", ["tiny", "smollm2", "paper"])
def test_every_rule_that_is_not_local_has_its_resources_and_no_other_has(preset):
    rules = {rule.partition("_")[0] if rule.startswith("evaluate_") else rule for rule in rules_for_the_cluster(preset)}
    assert {"augment", "train", "evaluate"} <= rules
    assert rules == RESOURCES.keys()


def test_jobs_with_a_gpu_ask_for_it_on_one_node():
    for rule, given in RESOURCES.items():
        assert (gpus(rule) > 0) == (rule not in WITHOUT_GPU), rule
        # gpu and gpu_model would ask for a second set of GPUs, tasks for a second set of CPUs.
        assert not given.keys() & {"gpu", "gpu_model", "tasks", "nodes"}, rule
        assert given.keys() >= {"mem", "runtime", "cpus_per_task"}, rule
    assert PROFILE["default-resources"].keys() == {"slurm_partition", "mem", "runtime", "cpus_per_task"}


def test_gpus_are_those_that_the_programs_use():
    compute = read_yaml(ROOT / "config" / "presets" / "paper.yaml")["compute"]
    assert gpus("train") == compute["processes"]
    assert gpus("augment") == gpus("evaluate") == compute["tensor_parallel"]
    assert gpus("reward_model") == gpus("annotate") == gpus("reference") == 1


def test_a_job_that_stops_is_started_again_and_nobody_waits_for_it_in_vain():
    assert PROFILE["restart-times"] >= 1
    assert PROFILE["slurm-requeue"]
    assert PROFILE["rerun-incomplete"]
    assert PROFILE["slurm-status-command"] == "squeue"


@pytest.mark.workflow
def test_snakemake_finds_the_profile_and_gives_jobs_its_resources():
    settings = ["preset=paper", "compute={shards: {train: 1, test: 1}, policies_per_job: 4}"]
    words = ["--profile", "slurm", "--dry-run", "table2", "--config", *settings]
    done = called("-m", "snakemake", *words, env=python_environment(HPS_DATA_DIR=""))
    assert done.returncode == 0, done.stderr
    for rule, wanted in {
        "train": {"gres": "gpu:l40s:4", "mem_mb": "192000", "runtime": "4320", "cpus_per_task": "16"},
        "evaluate_2": {"gres": "gpu:l40s:1", "mem_mb": "64000", "runtime": "1440"},  # one of the jobs of `evaluate`
        "augment": {"gres": "gpu:l40s:1", "scattered": "1", "slurm_partition": "gpu"},
    }.items():
        line = re.search(rf"^rule {rule}:.*?resources: (.*?)$", done.stdout, re.MULTILINE | re.DOTALL)[1]
        given = dict(pair.split("=", maxsplit=1) for pair in line.split(", "))
        assert wanted.items() <= given.items()
        assert "threads" not in given
