"""docs/definitions.md names only what exists."""

import ast
import importlib
import re

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "definitions.md").read_text(encoding="utf-8")
FORMULAS = [
    line for line in PAGE.splitlines() if line.startswith("|") and "computed by" not in line and line.count("|") == 6
]
FORMULAS = [line for line in FORMULAS if not line.startswith("| ---")]
FUNCTION, TEST = re.compile(r"`(hps(?:\.\w+)+)`"), re.compile(r"`(tests/[\w/]+\.py)((?:::\w+)*)`")


def test_every_formula_names_a_function_and_a_test():
    assert len(FORMULAS) >= 25
    for line in FORMULAS:
        source, _, functions, tests, _ = (cell.strip() for cell in line.strip("|").split("|"))
        assert source
        assert FUNCTION.search(functions), line
        assert all(names for _, names in TEST.findall(tests)), line
        assert TEST.search(tests), line


def test_every_equation_of_the_paper_that_is_computed_is_there():
    sources = " ".join(line.split("|")[1] for line in FORMULAS)
    for name in ("Eq. 3", "Eqs. 4, 5", "Eq. 6", "Eq. 8", "Eq. 9", "Eq. 10", "Eq. 15", "Eq. 16", "Eq. 17"):
        assert f"{name}" in sources
    for name in ("RM_DPO", "RM_R-DPO", "KL", "BLEU", "reward", "win rate", "quality score", "schedule of γ"):
        assert name in sources


@pytest.mark.parametrize("name", sorted(set(FUNCTION.findall(PAGE))))
def test_what_computes_it_exists(name):
    module, _, function = name.rpartition(".")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize(("path", "names"), sorted(set(TEST.findall(PAGE))))
def test_its_test_exists(path, names):
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    for name in names.split("::")[1:]:
        (found,) = (node for node in body if getattr(node, "name", None) == name)
        body = found.body
    assert body
