"""Pins stand in requirements.txt; everything else follows from it."""

import re

import pytest
import yaml
from conftest import ROOT

from hps.config import read_yaml


def pins(text: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


PINS = pins((ROOT / "requirements.txt").read_text())
ENVS = sorted((ROOT / "envs").glob("*.yaml"))


def test_every_requirement_is_pinned_exactly():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
    assert len(lines) == len(PINS)


@pytest.mark.parametrize("path", ENVS, ids=lambda path: path.stem)
def test_an_environment_repeats_the_pins(path):
    python, pip, packages = yaml.safe_load(path.read_text())["dependencies"]
    assert (python, pip) == ("python=3.11", "pip")
    for package in packages["pip"]:
        name, version = package.split("==")
        assert PINS[name] == version


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
            assert re.search(r"conda:\s+\"../envs/(\w+).yaml\"", rule)[1] in named, rule.splitlines()[0]
            assert "log:" in rule, rule.splitlines()[0]


@pytest.mark.parametrize("workflow", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.stem)
def test_continuous_integration_runs_make_test(workflow):
    steps = read_yaml(workflow)["jobs"]["test"]["steps"]
    assert any(step.get("run") == "make test" for step in steps)
    assert "make test" in (ROOT / ".ci" / "run").read_text()
