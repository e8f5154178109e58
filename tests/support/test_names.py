"""One name, one class: a reader who searches for one finds one."""

import ast
from collections import Counter

from conftest import SCRIPTS


def test_class_names_of_the_package_are_unique():
    names = Counter(
        node.name
        for path in (SCRIPTS / "hps").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name: count for name, count in names.items() if count > 1} == {}
