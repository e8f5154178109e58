"""After a kill the same command goes on: no lock of the dead in the way, no half-made file taken for whole."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPTS, python_environment

from hps.workflow import locks

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from hps.workflow import locks
locks.release_those_of_the_dead(workflow)
rule write:
    output: "out.txt"
    shell: "echo half > {{output}}; while [ ! -e go ]; do sleep 0.1; done; echo whole > {{output}}"
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """A small workflow, with the profile of the real one."""
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    return tmp_path


def start(folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1"],
        cwd=folder,
        env=python_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def started(folder: Path) -> subprocess.Popen:
    """A run whose job has begun to write."""
    run = start(folder)
    deadline = time.monotonic() + 60
    while not (folder / "out.txt").exists():
        assert run.poll() is None, run.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return run


def test_after_a_kill_the_same_command_goes_on(folder):
    run = started(folder)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert [*(folder / ".snakemake/locks").iterdir()]
    (folder / "go").touch()
    again = start(folder)
    assert "1 of 1 steps (100%) done" in again.communicate(timeout=60)[0]
    assert again.returncode == 0
    assert (folder / "out.txt").read_text() == "whole\n"
    assert not [*(folder / ".snakemake").glob("locks/*")]


def test_beside_a_live_run_the_lock_holds_and_the_line_says_what_to_do(folder):
    run = started(folder)
    said = start(folder).communicate(timeout=60)[0]
    assert f"{folder}/.snakemake/locks: if no other run of this folder is alive: snakemake --unlock, then" in said
    (folder / "go").touch()
    run.communicate(timeout=60)
    assert run.returncode == 0


@pytest.mark.parametrize(
    ("names", "local", "stays"),
    [("", True, False), ("here here", True, False), ("here there", True, True), ("", False, True)],
    ids=["of one killed at once", "of this machine", "of another machine", "on a cluster"],
)
def test_only_locks_of_this_machine_go_and_none_of_a_cluster(tmp_path, monkeypatch, names, local, stays):
    monkeypatch.setattr(locks.platform, "node", lambda: "here")
    (tmp_path / "alive").write_text("".join(f"{name}\n" for name in names.split()))
    (tmp_path / "locks").mkdir()
    lock = tmp_path / "locks" / "0.output.lock"
    lock.write_text("out.txt\n")
    with (tmp_path / "alive").open("a+") as file:
        locks.enter(file, tmp_path / "locks", local)
    assert lock.exists() == stays
    assert (tmp_path / "alive").read_text().split()[-1] == "here"
