"""The workflow on a real scheduler: `snakemake --profile slurm` on the cluster of tests/slurm/cluster.py.

`make test-slurm` runs this; a plain `pytest` does not come here. With QUICK=1 the DAG is that of quick.yaml, and what
needs a local run beside it, or waits for resumed trainings, is left out.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from cluster import Cluster, run
from conftest import copied_checkout
from submitting import (
    ENVIRONMENT,
    LONG,
    PROFILE,
    RUNS,
    SOON,
    jobs,
    left_out_of_the_cut,
    snakemake,
    start,
    until,
)

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster():
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def finished(cluster, tmp_path_factory) -> Path:
    """A checkout in which the whole DAG has run on the cluster."""
    folder = copied_checkout(tmp_path_factory.mktemp("cluster") / "hps-replica")
    snakemake(folder, "--profile", "slurm", "all")
    return folder


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """A checkout in which it has run on this machine without a scheduler."""
    folder = copied_checkout(tmp_path_factory.mktemp("local") / "hps-replica")
    snakemake(folder, "--cores", "2", "all")
    return folder


def megabytes(text: str) -> float:
    """SLURM's 62.50G or 8000M."""
    return float(text[:-1]) * {"M": 1, "G": 1024}[text[-1]]


def test_each_job_had_its_rules_resources(finished):
    seen = jobs(finished)
    minutes = {"h": 60, "d": 1440}
    for job in seen:
        wanted = PROFILE["set-resources"][job["rule"]]
        got = dict(part.split("=") for part in job["TRES"].split(","))
        assert (got["cpu"], got["node"]) == (str(wanted["cpus_per_task"]), "1")
        assert job["JOB_GRES"] == wanted.get("gres", "(null)")
        assert megabytes(got["mem"]) == 1000 * int(wanted["mem"].removesuffix("GB"))
        days, _, clock = job["TimeLimit"].rpartition("-")
        limit = int(wanted["runtime"][:-1]) * minutes[wanted["runtime"][-1]]
        assert int(days or 0) * 1440 + int(clock.split(":")[0]) * 60 == limit
        assert (job["Partition"], job["JobState"]) == ("gpu", "COMPLETED")
    assert {job["rule"] for job in seen} == PROFILE["set-resources"].keys()


def test_jobs_ran_side_by_side_on_several_nodes_and_their_logs_are_kept(finished):
    seen = jobs(finished)
    assert any(
        one["NodeList"] != other["NodeList"] and one["StartTime"] <= other["StartTime"] < one["EndTime"]
        for one in seen
        for other in seen
    )
    assert all(Path(job["StdOut"]).read_text() for job in seen)


CLOCK = re.compile(
    r'"(?:\w*seconds|tokens_per_second|time)": [^,\n}]+'
    r'|"[^"]*(?:model|facts|training)\.json": "[0-9a-f]{64}"'  # hashes of files that hold a time
    r"|\d+ values, from 2\d{3}-[-\dT:+]+ to [-\dT:+]+"
)


def timeless(path: Path) -> object:
    """A file's content without what a clock decides."""
    if path.suffix not in (".json", ".jsonl", ".html"):
        return path.read_bytes()
    return CLOCK.sub("", path.read_text())


TIMED = re.compile(r"logs/|benchmarks/|training_time|overview/cost|claims/|report\.html$")  # some claims are about time


def results(folder: Path) -> dict[str, object]:
    """All result files by name, but those about time."""
    root = folder / "results" / "tiny"
    names = {str(path.relative_to(root)): path for path in root.rglob("*") if path.is_file()}
    return {name: timeless(path) for name, path in names.items() if not TIMED.search(name)}


@left_out_of_the_cut
def test_results_are_those_of_a_local_run_file_by_file(finished, local):
    ours, theirs = results(finished), results(local)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 50
    assert [name for name in ours if ours[name] != theirs[name]] == []


def test_one_table_again_submits_only_what_is_missing(finished):
    before = len(jobs(finished))
    tables = finished / "results" / "tiny" / "tables"

    def again() -> None:
        for path in tables.glob("table6.*"):
            path.unlink()
        snakemake(finished, "--profile", "slurm", "table6", *SOON)
        assert (tables / "table6.csv").exists()

    again()
    assert len(jobs(finished)) == before
    shutil.rmtree(finished / "results" / "tiny" / "evaluations" / RUNS[1])
    again()
    assert [job["rule"] for job in jobs(finished)[before:]] == ["evaluate"]


def test_the_judges_server_takes_a_whole_node(finished, tmp_path):
    (tmp_path / "vllm").write_text('#!/bin/sh\necho "$@"\nsleep 600\n')
    (tmp_path / "vllm").chmod(0o755)
    path = f"{tmp_path}:{ENVIRONMENT['PATH']}"
    judge = finished / "results" / "paper" / "models" / "judge"
    judge.mkdir(parents=True)
    (judge / "model.json").write_text(json.dumps({"repo": "owner/judge", "commit": "c0ffee"}))
    words = ["sbatch", "--parsable", "--partition=gpu", "slurm/serve_judge.sh"]
    done = subprocess.run(
        words, cwd=finished, env=ENVIRONMENT | {"PATH": path}, check=True, capture_output=True, text=True
    )
    number = done.stdout.strip()
    log = finished / "slurm" / f"serve_judge.{number}.log"
    served = "serve results/paper/models/judge --served-model-name owner/judge@c0ffee --tensor-parallel-size 4"
    until(lambda: log.exists() and served in log.read_text(), "log")
    assert log.read_text().startswith("export HPS_JUDGE_URL=http://")
    shown = run("scontrol", "--oneliner", "--detail", "show", "job", number)
    assert all(f" {fact} " in shown for fact in ("NumCPUs=16", "JOB_GRES=gpu:l40s:4", "OverSubscribe=NO"))
    run("scancel", number)


def summary(run: str) -> str:
    return f"results/tiny/runs/{run}/training.json"


def checkpoints(folder: Path, run: str) -> Path:
    return folder / "results" / "tiny" / "checkpoints" / run


def saved(folder: Path, run: str) -> bool:
    return (checkpoints(folder, run) / "checkpoint").exists()


def training_jobs(folder: Path, run: str) -> list[dict[str, str]]:
    return [job for job in jobs(folder) if job["wildcards"] == run.replace("/", "_")]


def job_log(folder: Path, run: str) -> str:
    return (folder / "results" / "tiny" / "logs" / "train" / f"{run}.log").read_text()


@pytest.fixture(scope="module")
def undisturbed(local) -> Path:
    """The local checkout, with two longer trainings in place of two others."""
    snakemake(local, "--cores", "2", *map(summary, RUNS), *LONG)
    return local


def assert_same_policy(folder: Path, undisturbed: Path, run: str) -> None:
    for name in ("policy/adapter_model.safetensors", "log.jsonl"):
        mine, whole = (timeless(one / "results" / "tiny" / "runs" / run / name) for one in (folder, undisturbed))
        assert mine == whole, f"{run}/{name}"


@left_out_of_the_cut
def test_a_cancelled_job_and_one_whose_node_fails_go_on_from_their_checkpoints(finished, undisturbed):
    cancelled, failed = RUNS
    before = {run: len(training_jobs(finished, run)) for run in RUNS}
    process = start(finished, "--profile", "slurm", *map(summary, RUNS), *LONG, *SOON)
    for run_name in RUNS:
        until(lambda run_name=run_name: saved(finished, run_name), f"checkpoint of {run_name}")
    run("scancel", training_jobs(finished, cancelled)[-1]["JobId"])
    job = training_jobs(finished, failed)[-1]
    node = job["NodeList"]
    run("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    until(lambda: training_jobs(finished, failed)[-1]["JobState"] == "PENDING", "requeued")
    run("scontrol", "update", f"jobid={job['JobId']}", "starttime=now")  # SLURM would wait for two minutes
    assert process.wait(600) == 0, (finished / "said.log").read_text()[-6000:]
    run("scontrol", "update", f"nodename={node}", "state=resume")
    first, second = training_jobs(finished, cancelled)[before[cancelled] :]
    assert (first["JobState"], second["JobState"]) == ("CANCELLED", "COMPLETED")
    (requeued,) = training_jobs(finished, failed)[before[failed] :]
    assert (requeued["JobState"], requeued["Restarts"]) == ("COMPLETED", "1")
    assert requeued["NodeList"] != node
    for run_name in RUNS:
        assert "resuming after step" in job_log(finished, run_name)
        assert_same_policy(finished, undisturbed, run_name)


@left_out_of_the_cut
def test_jobs_of_a_killed_snakemake_are_cancelled_and_a_rerun_goes_on(finished, undisturbed):
    target = (summary(RUNS[0]), *LONG, *SOON)
    (finished / summary(RUNS[0])).unlink()
    shutil.rmtree(checkpoints(finished, RUNS[0]))  # a run that has finished before is put in place without training
    before = len(training_jobs(finished, RUNS[0]))
    process = start(finished, "--profile", "slurm", *target)
    until(lambda: saved(finished, RUNS[0]), "checkpoint")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    sleeper = ("sbatch", "--parsable", "--output=/dev/null", "--mem=10", "--wrap=sleep 600")
    others = [
        run(*sleeper, "--job-name=mine", f"--chdir={finished}").strip(),
        run(*sleeper, "--job-name=hps_of-another-folder", "--chdir=/tmp").strip(),
    ]
    (orphan,) = training_jobs(finished, RUNS[0])[before:]
    assert orphan["JobState"] == "RUNNING"
    cancel = ["make", "--no-print-directory", "slurm-cancel"]
    said = subprocess.run(cancel, cwd=finished, env=ENVIRONMENT, capture_output=True, text=True)
    assert f"cancelled {orphan['JobId']} rule_train" in said.stdout, said.stderr
    assert training_jobs(finished, RUNS[0])[-1]["JobState"] == "CANCELLED"
    assert sorted(run("squeue", "--noheader", "--format=%i %T").splitlines()) == [f"{job} RUNNING" for job in others]
    run("scancel", *others)
    again = subprocess.run(cancel, cwd=finished, env=ENVIRONMENT, capture_output=True, text=True)
    assert again.stdout.splitlines()[-1] == f"no jobs of {finished}"
    assert "make slurm-cancel, snakemake --profile slurm --unlock" in snakemake(
        finished, "--profile", "slurm", *target, check=False
    )
    snakemake(finished, "--profile", "slurm", "--unlock")
    snakemake(finished, "--profile", "slurm", *target)
    assert "resuming after step" in job_log(finished, RUNS[0])
    assert_same_policy(finished, undisturbed, RUNS[0])


def test_a_job_over_its_time_and_one_over_its_memory_name_rule_job_and_log(finished):
    profile = finished / "slurm" / "config.yaml"
    text = profile.read_text()
    for rule, given, limit in (("train", "runtime: 3d", "runtime: 1m"), ("annotate", "mem: 64GB", "mem: 100MB")):
        text, changed = re.subn(rf"(  {rule}: .*){given}", rf"\1{limit}", text)
        assert changed == 1
    profile.write_text(text)
    scored = "results/tiny/scored/hh_rlhf/test.1-of-1.parquet"
    (finished / scored).unlink()
    endless = ("--config", "training={epochs: 20000, checkpoint_every: 1000}")
    before = len(jobs(finished))
    said = snakemake(
        finished, "--profile", "slurm", summary(RUNS[0]), scored, *endless, "--retries", "0", *SOON, check=False
    )
    ended = {job["rule"]: job for job in jobs(finished)[before:]}
    assert ended["train"]["JobState"] == "TIMEOUT"
    # Without cgroups SLURM has no OUT_OF_MEMORY; its log says why it ended the job.
    assert ended["annotate"]["JobState"] in ("OUT_OF_MEMORY", "FAILED")
    assert "memory limit" in Path(ended["annotate"]["StdOut"]).read_text()
    for rule, log in (("train", f"train/{RUNS[0]}.log"), ("annotate", "annotate/hh_rlhf.test.1-of-1.log")):
        error = re.search(rf"Failed: {rule} .*?the end of results/tiny/logs/{re.escape(log)}", said, re.DOTALL)[0]
        assert f"SLURM status is: '{ended[rule]['JobState']}'" in error
        assert f"external_jobid: {ended[rule]['JobId']}" in error
    assert not (finished / summary(RUNS[0])).exists() or json.loads((finished / summary(RUNS[0])).read_text())
