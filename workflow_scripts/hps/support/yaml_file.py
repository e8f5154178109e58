"""Reading of YAML as a user writes it: what a plain reader would drop, or drown in, is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from hps.support.errors import InputError
from hps.support.files import DEEPEST, regular

MOST = 100_000
"""Values that a file may have, those behind an alias counted each time."""


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a mapping whose keys are text.

    Raises InputError naming file and row: no such file, not UTF-8, not YAML, not a mapping, a key twice, a key that is
    no text, aliases that stand for more than `MOST` values, more than `DEEPEST` levels.
    """
    try:
        content = Path(regular(path)).read_bytes()
        text = content.decode("utf-8")
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        row = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{row}", "is not UTF-8") from error
    return parse_yaml(text, path)


def parse_yaml(text: str, where: object) -> dict[str, Any]:
    """The mapping that a text spells. Raises InputError as `read_yaml` does, naming `where` and the row."""
    try:
        _check_depth(text, where)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                raise InputError(where, "is not a mapping of keys to values")
            _count(node, where, {})
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{where}:{mark.line + 1}" if mark else where, f"is not YAML: {what}") from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(where, f"is not YAML: {error}") from error


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _check_depth(text: str, path: object) -> None:
    """Before anything recurses: libyaml's composer does so in C, where too deep is a crash."""
    depth = 0
    for event in yaml.parse(text, _Loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{path}:{event.start_mark.line + 1}", f"is nested more than {DEEPEST} levels deep")


def _count(node: yaml.Node, path: object, counts: dict[int, float]) -> float:
    """Values in `node`, and its keys checked. An alias to what it stands in is infinitely many."""
    if id(node) in counts:
        return counts[id(node)]
    counts[id(node)] = math.inf
    below: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        below = node.value
    elif isinstance(node, yaml.MappingNode):
        below = [value for _, value in node.value]
        seen = set()
        for key, _ in node.value:
            where = f"{path}:{key.start_mark.line + 1}"
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _TEXT:
                raise InputError(where, f"key {getattr(key, 'value', '')!s:.40} is no text")
            if key.value in seen:
                raise InputError(where, f"key {key.value} stands twice in its block")
            seen.add(key.value)
    counts[id(node)] = 1 + sum(_count(one, path, counts) for one in below)
    if counts[id(node)] > MOST:
        raise InputError(f"{path}:{node.start_mark.line + 1}", "its aliases stand for too many values")
    return counts[id(node)]


_TEXT = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
