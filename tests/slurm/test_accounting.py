"""The workflow on a cluster with accounting: accounts, a quality of service, limits, a drained node, `sacct`.

`make test-slurm` runs this beside test_cluster.py, with the cut of quick.yaml and as far as two methods' evaluations.
"""

import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import submitting
from cluster import ACCOUNT, NODES, QOS, Cluster, can_constrain_memory, run
from conftest import copied_checkout
from submitting import PROFILE, SOON, left_out_of_the_cut, rule_and_wildcards, until

pytestmark = [pytest.mark.slurm, left_out_of_the_cut]

CUT = "tests/slurm/quick.yaml"
RUNS = [f"dataset~hh_rlhf/method~dpo-{loss}_n~4_beta~0.1_seed~0" for loss in ("bt", "hps")]
EVALUATED = [f"results/tiny/evaluations/{run}" for run in RUNS]
TRAINED = f"results/tiny/runs/{RUNS[0]}/training.json"
snakemake, start = partial(submitting.snakemake, config=CUT), partial(submitting.start, config=CUT)
FIELDS = "JobID,JobIDRaw,Account,QOS,Partition,State,NodeList,ReqTRES,WorkDir,Comment"


def jobs(folder: Path) -> list[dict[str, str]]:
    """The folder's jobs as the accounts have them, oldest first; `rule` from the comment."""
    lines = run("sacct", "--allocations", "--parsable2", "--noheader", "--duplicates", f"--format={FIELDS}")
    found = [dict(zip(FIELDS.split(","), line.split("|"), strict=True)) for line in lines.splitlines()]
    for job in found:
        job["rule"], _ = rule_and_wildcards(job["Comment"])
    return sorted((job for job in found if job["WorkDir"] == str(folder)), key=lambda job: int(job["JobIDRaw"]))


@contextmanager
def changed(folder: Path, *pairs: tuple[str, str]) -> Iterator[None]:
    """The profile with other lines, until the end of the block."""
    path = folder / "slurm" / "config.yaml"
    before = text = path.read_text()
    for pattern, other in pairs:
        text, found = re.subn(pattern, other, text)
        assert found == 1
    path.write_text(text)
    yield
    path.write_text(before)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Iterator[Path]:
    """A checkout in which two methods were trained and evaluated, its profile changed as docs/cluster.md says."""
    with Cluster(accounting=True):
        folder = copied_checkout(tmp_path_factory.mktemp("accounting") / "hps-replica")
        with changed(folder, (r"# slurm_account: my_account", f"slurm_account: {ACCOUNT}")):
            snakemake(folder, "--profile", "slurm", *EVALUATED)
            yield folder


def test_each_job_is_accounted_for_and_none_ran_on_the_drained_node(finished):
    seen = jobs(finished)
    assert (
        {"train", "evaluate", "augment", "scratch_model"}
        <= {job["rule"] for job in seen}
        <= {*PROFILE["set-resources"]}
    )
    for job in seen:
        assert (job["Account"], job["QOS"], job["State"]) == (ACCOUNT, QOS, "COMPLETED")
        assert job["NodeList"] in NODES[:-1]
        gpus = re.search(r"gres/gpu=(\d+)", job["ReqTRES"])
        wanted = PROFILE["set-resources"][job["rule"]].get("gres")
        assert (gpus and gpus[1]) == (wanted and wanted.rpartition(":")[2])


@pytest.mark.parametrize("command", ["sacct", "squeue"])
def test_an_array_of_jobs_and_its_status_by_either_command(finished, command):
    before = len(jobs(finished))
    for folder in EVALUATED:
        shutil.rmtree(finished / folder)
    array = ("--slurm-array-jobs", "evaluate", "--slurm-status-command", command)
    snakemake(finished, "--profile", "slurm", *EVALUATED, *array, *SOON)
    assert arrays(jobs(finished)[before:], "evaluate") == [2]
    assert all((finished / folder).is_dir() for folder in EVALUATED)


def test_60_jobs_in_arrays(finished):
    shards = [f"results/many/candidates/hh_rlhf/train.{number}-of-60.parquet" for number in range(1, 61)]
    many = ("--config", "name=many", "data={splits: {train: {prompts: 60}}}", "compute={shards: {train: 60}}")
    # An array whose jobs may not all start at once never does, says docs/cluster.md.
    array = ("--slurm-array-jobs", "augment", "--resources", "scattered=60")
    before = len(jobs(finished))
    snakemake(finished, "--profile", "slurm", *shards, *array, *SOON, *many)
    assert arrays([job for job in jobs(finished)[before:] if job["rule"] == "augment"], "augment") == [16, 16, 16, 12]
    assert all((finished / shard).is_file() for shard in shards)


def arrays(jobs: list[dict[str, str]], rule: str) -> list[int]:
    """The sizes of the arrays, all of one rule, in which jobs were submitted and went well."""
    assert {(job["rule"], job["State"]) for job in jobs} == {(rule, "COMPLETED")}
    numbers = [job["JobID"].split("_") for job in jobs]
    assert sorted(int(number) for _, number in numbers) == list(range(1, len(jobs) + 1))
    return [*Counter(array for array, _ in numbers).values()]


def test_a_cancelled_job_is_submitted_again_and_goes_on(finished):
    before = len(jobs(finished))
    process = start(finished, "--profile", "slurm", TRAINED, *submitting.LONG, *SOON)
    until(lambda: (finished / "results/tiny/checkpoints" / RUNS[0] / "checkpoint").exists(), "checkpoint")
    run("scancel", jobs(finished)[-1]["JobIDRaw"])
    assert process.wait(600) == 0, (finished / "said.log").read_text()[-6000:]
    assert [job["State"] for job in jobs(finished)[before:]] == ["CANCELLED by 0", "COMPLETED"]
    assert "resuming after step" in (finished / f"results/tiny/logs/train/{RUNS[0]}.log").read_text()


def test_a_job_over_its_time_is_seen_by_sacct(finished):
    endless = ("--config", "training={epochs: 20000, checkpoint_every: 1000}", "--retries", "0")
    with changed(finished, (r"(  train: .*)runtime: 3d", r"\1runtime: 1m")):
        status = ("--slurm-status-command", "sacct")
        said = snakemake(finished, "--profile", "slurm", TRAINED, *endless, *status, *SOON, check=False)
    assert jobs(finished)[-1]["State"] == "TIMEOUT"
    assert "SLURM status is: 'TIMEOUT'" in what_failed(said, "train")


@pytest.mark.skipif(not can_constrain_memory(), reason="no cgroups for memory here, or not of the first version")
def test_a_job_over_its_memory_is_ended_by_the_kernel(finished):
    scored = finished / "results/tiny/scored/hh_rlhf/test.1-of-1.parquet"
    scored.unlink()
    with changed(finished, (r"(  annotate: .*)mem: 64GB", r"\1mem: 100MB")):
        target = str(scored.relative_to(finished))
        said = snakemake(finished, "--profile", "slurm", target, "--retries", "0", *SOON, check=False)
    assert jobs(finished)[-1]["State"] == "OUT_OF_MEMORY"
    assert "SLURM status is: 'OUT_OF_MEMORY'" in what_failed(said, "annotate")


def what_failed(said: str, rule: str) -> str:
    """What Snakemake said of a job that failed."""
    return re.search(rf"Failed: {rule} .*?external_jobid: \d+", said, re.DOTALL)[0]


@pytest.mark.parametrize(
    ("line", "other", "error"),
    [
        (f"slurm_account: {ACCOUNT}", "slurm_account: nobody", "The given account nobody appears to be invalid"),
        ("slurm_partition: gpu", "slurm_partition: short", "Requested time limit is invalid"),
        (f"slurm_account: {ACCOUNT}", f"slurm_account: {ACCOUNT}\n  qos: unknown", "Invalid qos specification"),
    ],
    ids=["account", "time limit of the partition", "quality of service"],
)
def test_what_the_cluster_does_not_grant_is_said_and_no_job_starts(finished, line, other, error):
    before = len(jobs(finished))
    (finished / TRAINED).unlink(missing_ok=True)
    with changed(finished, (line, other)):
        assert error in snakemake(finished, "--profile", "slurm", TRAINED, "--retries", "0", *SOON, check=False)
    assert len(jobs(finished)) == before
