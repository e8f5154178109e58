"""The folder for a machine without network: which wheels it has, its parts, and what its script does with them."""

import os
import shutil
import subprocess
import sys
import tarfile

import pytest
from conftest import ROOT, python_environment

from bundle import make
from hps.support.errors import InputError
from hps.support.files import write_json

PINS = make.pinned((ROOT / "constraints.txt").read_text())
PRESENT = make.names((ROOT / "bundle/present.txt").read_text())
FOR_TESTS = {"pytest", "pytest-xdist", "hypothesis", "ruff", "snakefmt", "import-linter", "nltk", "fastapi", "uvicorn"}
FOR_TESTS |= {"selenium", "rocrate"}
FOR_OTHER_MACHINES = {"snakemake-executor-plugin-slurm", "snakemake-executor-plugin-slurm-jobstep"}
FOR_OTHER_MACHINES |= {"snakemake-report-plugin-fairscape"}  # make crate, once the results are back


def test_what_is_not_present_is_packed_at_its_pin():
    wheels = make.missing(make.roots(), PRESENT, PINS)
    assert set(wheels) <= set((ROOT / "constraints.txt").read_text().split())
    packed = make.names("\n".join(wheels))
    assert not packed & PRESENT
    required = make.names((ROOT / "requirements.txt").read_text())
    assert required - packed - PRESENT == FOR_TESTS | FOR_OTHER_MACHINES


def test_what_a_package_needs_is_packed_with_it_and_what_is_present_needs_nothing():
    wheels = make.missing({"peft"}, PRESENT - {"peft", "transformers"}, PINS)
    assert [wheel.partition("==")[0] for wheel in wheels] == ["peft", "transformers"]
    assert make.missing({"peft"}, {"peft"}, PINS) == []


def test_what_has_no_pin_is_named():
    with pytest.raises(InputError, match=r"constraints.txt: torch: has no pin"):
        make.missing({"accelerate"}, PRESENT - {"accelerate", "torch"} | {"setuptools"}, PINS)


@pytest.mark.parametrize(("size", "parts"), [(1, [1]), (10, [10]), (25, [10, 10, 5])])
def test_parts_joined_in_the_order_of_their_names_are_the_file(tmp_path, size, parts):
    (whole := tmp_path / "whole").write_bytes(os.urandom(size))
    (folder := tmp_path / "parts").mkdir()
    make.cut(whole, folder, 10)
    assert [path.stat().st_size for path in sorted(folder.iterdir())] == parts
    assert b"".join(path.read_bytes() for path in sorted(folder.iterdir())) == whole.read_bytes()


STUB = """#!/bin/bash
case "$1 ${2:-}" in
  "-m pip") mkdir "${@: -2:1}" ;;
  "-m snakemake") mkdir -p results/mine/logs && echo page > results/mine/report.html ;;
  workflow_scripts/record_results.py*) mkdir -p "${@: -1}" && echo cells > "${@: -1}/table2.csv" ;;
  *) exec PYTHON "$@" ;;
esac
echo "$@" >> LOG
"""


@pytest.fixture
def bundle(tmp_path):
    """A bundle of next to nothing in three parts, beside a Python that writes down what it would do."""
    payload, folder = tmp_path / "payload", tmp_path / "bundle"
    for name in ("code/Snakefile", "wheels/a.whl", "data/pairs"):
        (payload / name).parent.mkdir(parents=True)
        (payload / name).write_text(name)
    folder.mkdir()
    with tarfile.open(tmp_path / "archive", "w") as tar:
        tar.add(payload, ".")
    make.cut(tmp_path / "archive", folder, 5000)
    shutil.copy(ROOT / "bundle/run", folder)
    python = "{}.{}".format(*sys.version_info)
    write_json(folder / "target.json", {"python": python, "present": ["pytest"], "configfiles": ["one", "two"]})
    (stub := tmp_path / "python").write_text(
        STUB.replace("PYTHON", sys.executable).replace("LOG", str(tmp_path / "log"))
    )
    stub.chmod(0o755)
    (folder / "SHA256SUMS").write_text(make.sums(folder))
    return folder


def started(folder, *words, **environment):
    env = python_environment(PYTHON=str(folder.parent / "python"), CORES="3", DEVICE="cpu", **environment)
    return subprocess.run([folder / "run", *words], env=env, capture_output=True, text=True)


def test_the_script_installs_once_runs_and_records(bundle):
    for _ in range(2):
        done = started(bundle, "--config", "seeds=[0]")
        assert done.returncode == 0, done.stderr
    (work,) = (bundle / "work").iterdir()
    install, snakemake, record, *again = (bundle.parent / "log").read_text().splitlines()
    assert install.startswith("-m pip install --quiet --no-index --no-deps")
    assert install.endswith("wheels/a.whl")
    assert snakemake == "-m snakemake all --cores 3 --configfile one two --config seeds=[0]"
    assert record.startswith("workflow_scripts/record_results.py --results results/mine --command bundle/run --config")
    assert again == [snakemake, record]
    assert (work / "data/pairs").read_text() == "data/pairs"
    assert (bundle / "out/mine.html").read_text() == "page\n"
    with tarfile.open(bundle / "out/mine.tar.gz") as tar:
        assert tar.extractfile("mine/table2.csv").read() == b"cells\n"
    assert (bundle / "out/logs.tar.gz").is_file()


def test_a_damaged_part_is_named_and_nothing_is_unpacked(bundle):
    damaged = bytearray((bundle / "part-001").read_bytes())
    damaged[7] ^= 1
    (bundle / "part-001").write_bytes(damaged)
    done = started(bundle)
    assert done.returncode != 0
    assert "part-001: FAILED" in done.stdout + done.stderr
    assert not (bundle / "work").exists()


@pytest.mark.parametrize(
    ("target", "environment", "said"),
    [
        ({"python": "3.9"}, {}, "and the wheels are for 3.9"),
        ({"present": ["pytest", "no-such-package"]}, {}, "not installed here and not packed: no-such-package"),
        ({}, {"DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""}, "torch sees no GPU; DEVICE=cpu runs without one"),
    ],
)
def test_a_machine_that_it_is_not_for_is_refused_in_one_line(bundle, target, environment, said):
    python = "{}.{}".format(*sys.version_info)
    write_json(bundle / "target.json", {"python": python, "present": [], "configfiles": ["one"], **target})
    (bundle / "SHA256SUMS").unlink()
    (bundle / "SHA256SUMS").write_text(make.sums(bundle))
    env = {"DEVICE": "cpu"} | environment
    done = subprocess.run(
        [bundle / "run"],
        env=python_environment(PYTHON=sys.executable, **env),
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert line.endswith(said)
    assert not (bundle / "work").exists()
