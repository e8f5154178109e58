"""Several processes train as one, share a model's weights, and end together when one of them fails."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import stage_files
import torch
import train_steps
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from conftest import ROOT, python_environment
from safetensors.torch import load_file
from test_trainer import SCHEDULE, command, steps, train
from transformers import LlamaForCausalLM

from hps.models.sources import load_causal, load_tokenizer, save

pytestmark = pytest.mark.long
NO_HANG = 60
"""Seconds in which a failed job must have ended."""


@pytest.fixture(scope="module")
def untied_folder(tmp_path_factory, model_folder):
    """Like `model_folder`, with an output head of its own."""
    torch.manual_seed(1)
    config = load_causal(model_folder).config
    config.tie_word_embeddings = False
    folder = tmp_path_factory.mktemp("models") / "untied"
    facts = {"role": "policy", "source": "scratch"}
    save(folder, LlamaForCausalLM(config), load_tokenizer(model_folder), facts)
    return folder


@pytest.fixture(scope="module")
def cases(tmp_path_factory, model_folder, untied_folder):
    """Losses, numbers of responses and token budgets that cut differently on each process; the last batch is one
    prompt, so that a process has none."""
    schedule = asdict(replace(SCHEDULE, epochs=1, learning_rate=1e-6))

    def case(model: Path, loss: str, n: int, batch_tokens: int, full: bool = False, recompute: bool = False) -> dict:
        return {
            "model": str(model),
            "files": files[model],
            "loss": loss,
            "n": n,
            "batch_tokens": batch_tokens,
            "full": full,
            "recompute": recompute,
            "schedule": schedule,
        }

    files = {
        model: stage_files.make(tmp_path_factory.mktemp("stages"), model, prompts=5, n=17)
        for model in (model_folder, untied_folder)
    }
    return {
        "bt 2": case(model_folder, "bt", 2, 4096),
        "pl 3": case(model_folder, "pl", 3, 50),
        "pl 17": case(untied_folder, "pl", 17, 60, recompute=True),
        "hps 17": case(model_folder, "hps", 17, 50),
        "sharded tied pl 17": case(model_folder, "pl", 17, 60, full=True),
        "sharded untied pl 17": case(untied_folder, "pl", 17, 100, full=True, recompute=True),
        "sharded untied hps 3": case(untied_folder, "hps", 3, 4096, full=True),
    }


def launch(processes: int) -> list[str]:
    """The launcher as the workflow calls it; another number of processes than the file's wins over it."""
    config = ROOT / "config" / "accelerate" / f"{1 if processes == 1 else 4}.yaml"
    words = f"-m accelerate.commands.accelerate_cli launch --config_file {config} --num_processes {processes}"
    return [sys.executable, *words.split()]


def flat(gradients: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradients[name].flatten() for name in sorted(gradients)])


def test_two_processes_compute_the_gradient_of_one_and_fail_together(cases, tmp_path):
    """Ragged prompts and responses, micro-batches by token budget: the same batches, draws, losses and gradients.

    At the end one process has an input error while the other waits for it: the job ends, and says why.
    """
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    words = [*launch(2), "tests/train_steps.py", str(tmp_path / "cases.json"), str(tmp_path), "fail"]
    done = subprocess.run(words, env=python_environment(), cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "scored.parquet: cannot be read by this process" in done.stderr
    for name, case in cases.items():
        rows, gradients = train_steps.steps(Accelerator(cpu=True), case)
        theirs = load_file(tmp_path / f"{name}.safetensors")
        assert gradients.keys() == theirs.keys(), name
        for mine, other in zip(rows, json.loads((tmp_path / f"{name}.json").read_text()), strict=True):
            assert known(other) == pytest.approx(known(mine), rel=1e-4, abs=1e-5), name
        difference = (flat(gradients) - flat(theirs)).norm() / flat(gradients).norm()
        assert difference < 1e-4, f"{name}: {difference}"


def known(row: dict) -> dict:
    """A log row without what the loss does not have, such as gamma."""
    return {key: value for key, value in row.items() if value is not None}


def children(pid: int) -> list[int]:
    """Processes that this one started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return sorted(found)


def test_a_killed_process_ends_the_job_and_the_next_one_resumes_its_shards(model_folder, tmp_path):
    """Full fine-tuning on two processes, killed midway, ends as on one process; the policy is an ordinary folder."""
    files = stage_files.make(tmp_path, model_folder, prompts=6, n=4)
    more = ("--adapter", "full", "--learning-rate", "1e-4", "--activation-checkpointing", "--epochs", "10")
    words = command(files, model_folder, tmp_path / "two", *more, processes=2)
    job = subprocess.Popen(words, env=python_environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not (tmp_path / "two" / "work" / "checkpoint" / "state.json").exists():
        assert job.poll() is None, job.communicate()[1][-4000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(children(job.pid)[-1], signal.SIGKILL)
    said = job.communicate(timeout=NO_HANG)[1]
    assert job.returncode != 0
    assert "SIGKILL" in said
    assert not (tmp_path / "two" / "policy").exists()
    assert {path.name for path in (tmp_path / "two" / "work" / "checkpoint").iterdir()} == {
        "state.json",
        "state-0.safetensors",
        "state-1.safetensors",
    }
    resumed = train(files, model_folder, tmp_path / "two", *more, processes=2)
    assert "resuming after step" in resumed
    train(files, model_folder, tmp_path / "one", *more)

    one, two = (steps(tmp_path / name / "log.jsonl") for name in ("one", "two"))
    assert len(one) == len(two) == 30
    for mine, theirs in zip(one, two, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-2, abs=1e-3)
    start, single, shared = (
        load_causal(path) for path in (model_folder, *(tmp_path / x / "policy" for x in ("one", "two")))
    )
    moved = torch.cat([(a - b).flatten() for a, b in zip(single.parameters(), start.parameters(), strict=True)])
    apart = torch.cat([(a - b).flatten() for a, b in zip(single.parameters(), shared.parameters(), strict=True)])
    assert apart.norm() < 0.02 * moved.norm()
    configs = [(tmp_path / name / "policy" / "config.json").read_text() for name in ("one", "two")]
    assert configs[0] == configs[1]
    summaries = [json.loads((tmp_path / name / "training.json").read_text()) for name in ("one", "two")]
    assert summaries[0]["trained_parameters"] == summaries[1]["trained_parameters"] == start.num_parameters()


def test_two_trainings_share_a_node(tmp_path):
    """Each launcher takes a free port; one starts the four processes of its file."""
    jobs = {}
    for processes in (4, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        (folder / "cases.json").write_text("{}")
        words = [*launch(processes), "tests/train_steps.py", str(folder / "cases.json"), str(folder)]
        jobs[processes] = subprocess.Popen(words, env=python_environment(), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    for processes, job in jobs.items():
        said = job.communicate(timeout=300)[1]
        assert job.returncode == 0, said[-4000:]
        assert json.loads((tmp_path / str(processes) / "processes.json").read_text()) == processes


@pytest.mark.parametrize("processes", [1, 4, 8])
def test_accelerate_accepts_the_configurations(processes):
    """Its own loader reads every key, and none of another version is left over."""
    file = ROOT / "config" / "accelerate" / f"{processes}.yaml"
    loaded = load_config_from_file(str(file))
    assert loaded.num_processes == processes
    assert loaded.num_machines == 1
    assert loaded.main_process_port == 0
    assert loaded.mixed_precision == "no"
    assert str(loaded.distributed_type) == ("DistributedType.NO" if processes == 1 else "DistributedType.MULTI_GPU")
