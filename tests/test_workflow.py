"""The DAG: what each preset would run, without data or network, and what bad configuration does to it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, python_environment

pytestmark = pytest.mark.workflow


def snakemake(*words: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *words],
        cwd=folder,
        env=python_environment(HPS_DATA_DIR="", **environment),
        capture_output=True,
        text=True,
    )


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the workflow without any results."""
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("rules", "config", "workflow_scripts", "envs", "report", "paper"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def planned_jobs(done: subprocess.CompletedProcess) -> dict[str, int]:
    """Jobs a rule, from a dry run's statistics."""
    assert done.returncode == 0, done.stderr
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)}


ALWAYS = {
    "download": 2,
    "reward_model": 2,
    "train": 44,
    "evaluate": 44 + 1,  # each run and SFT
    "table": 5,
    "make_training_time": 1,
    "figure": 4,
    "training_curves": 2,
    "configuration": 1,
    "overview": 1,
    "audit": 1,
    "theory": 1,
    "claims": 1,
    "cost": 1,
    "report": 1,
    "all": 1,
}
TINY = ALWAYS | {"toy_data": 1, "tokenizer": 1, "scratch_model": 2}
SHARDED = ("augment", "annotate", "reference")


@pytest.mark.parametrize(
    ("preset", "jobs", "shards"),
    [
        ("tiny", TINY, 1),
        ("smollm2", ALWAYS | {"fetch_model": 2}, 1),
        ("paper", {k: n for k, n in ALWAYS.items() if k != "reward_model"} | {"fetch_model": 4}, 64),
    ],
)
def test_every_preset_plans_44_trainings(checkout, preset, jobs, shards):
    planned = planned_jobs(snakemake("--dry-run", "all", "--config", f"preset={preset}", folder=checkout))
    expected = jobs | dict.fromkeys(SHARDED, 2 * 2 * shards)
    assert planned.pop("total") == sum(expected.values())
    assert planned == expected


@pytest.mark.parametrize(
    ("target", "trainings", "evaluations"),
    [
        ("table2", 30, 31),
        ("table5", 30, 30),
        ("table6", 8, 8),
        ("table7", 8, 8),
        ("table8", 10, 10),
        ("training_time", 30, 0),
        ("figures", 44, 45),
        ("claims", 44, 45),
    ],
)
def test_each_target_alone_plans_only_what_it_needs(checkout, target, trainings, evaluations):
    planned = planned_jobs(snakemake("--dry-run", target, folder=checkout))
    assert planned["train"] == trainings
    assert planned.get("evaluate", 0) == evaluations


def test_the_audit_needs_no_training(checkout):
    planned = planned_jobs(snakemake("--dry-run", "audit", folder=checkout))
    assert {"train", "evaluate"} & planned.keys() == set()
    assert planned["reference"] == planned["annotate"] == 2  # the test prompts of both data sets


def test_tables_together_train_nothing_twice(checkout):
    planned = planned_jobs(snakemake("--dry-run", "table2", "table6", "table8", folder=checkout))
    assert planned["train"] == 44


def test_a_reward_added_to_the_grid_is_a_row_everywhere(checkout):
    given = 'grid={"rewards": ["dpo", "kto"]}'
    planned = planned_jobs(snakemake("--dry-run", "table2", "--config", given, folder=checkout))
    assert planned["train"] == 2 * 3 * 2


def test_one_data_set_has_no_transfer(checkout):
    given = 'grid={"datasets": ["hh_rlhf"]}'
    planned = planned_jobs(snakemake("--dry-run", "all", "--config", given, folder=checkout))
    assert (planned["train"], planned["evaluate"], planned["table"]) == (15 + 6 + 8, 15 + 6 + 8 + 1, 3)


def test_without_transfer_there_are_no_tables_of_it(checkout):
    planned = planned_jobs(snakemake("--dry-run", "all", "--config", "evaluation={transfer: false}", folder=checkout))
    assert (planned["train"], planned["evaluate"], planned["table"]) == (44, 45, 3)


def test_another_number_of_shards_cuts_the_same_work(checkout):
    planned = planned_jobs(snakemake("--dry-run", "table2", "--set-scatter", "shard=8", folder=checkout))
    assert planned["augment"] == planned["annotate"] == planned["reference"] == 32


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--config", "training={epoch: 3}"), "command line: training.epoch: unknown key (did you mean epochs?)"),
        (("--config", "objective={beta: -1}"), "command line: objective.beta: -1 is less than"),
        (("--config", "preset=smollm2", "data_dir=/nowhere"), "command line: data_dir: no folder /nowhere"),
    ],
)
def test_bad_configuration_stops_before_any_job_with_one_line(checkout, words, message):
    done = snakemake("--dry-run", "all", *words, folder=checkout)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (checkout / "results").exists()


def test_a_wrong_value_in_config_yaml_names_that_file(checkout):
    path = checkout / "config.yaml"
    path.write_text(path.read_text().replace("protocol: paper", "protocol: papre"))
    done = snakemake("--dry-run", "all", folder=checkout)
    assert "config.yaml: protocol: no protocol 'papre'; there are paper, released_code" in done.stdout + done.stderr
