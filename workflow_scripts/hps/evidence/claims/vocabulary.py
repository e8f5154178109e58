"""Claims as they stand in `paper/claims.yaml`: read, validated against a schema, and expanded into comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise, product
from pathlib import Path
from string import Template
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from hps.evidence.tables import NAMES
from hps.support.errors import InputError
from hps.support.yaml_file import read_yaml

ALL = "all"
Value = str | float
Cell = dict[str, Value]
"""A row of a table by the values of its columns."""


@dataclass(frozen=True)
class Claim:
    """One claim. `details` holds what its kind needs (first, second, of, margin, limit and so on)."""

    id: str
    section: str
    says: str
    table: str
    kind: str  # greater, within, ratio_at_most, monotone, at_least, at_most
    details: Mapping[str, Any]
    each: Mapping[str, Any] = field(default_factory=dict)
    average: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    smallest: float | None = None  # smallest effect of interest, for kinds that say which of two numbers is larger


@dataclass(frozen=True)
class Operand:
    """A number of a table: the row's cell and the column."""

    cell: Cell
    metric: str
    optional: bool = False  # the table need not have this column


@dataclass(frozen=True)
class ClaimComparison:
    """One statement of a claim about operands; several `terms` are averaged, and one is the usual case.

    A term has two operands (first, second), or one where the kind compares a value with a limit. `paired`, where a
    table has it, is first - second with an interval of its own, which is narrower than that of two numbers apart.
    """

    label: str
    terms: tuple[tuple[Operand, ...], ...]
    paired: Operand | None = None


def read_claims(path: str | Path, schema_path: str | Path) -> list[Claim]:
    """Read and check claims. Raises InputError naming the file, the claim, and what is wrong with it."""
    value, schema = read_yaml(Path(path)), read_yaml(Path(schema_path))
    error = best_match(Draft202012Validator(schema).iter_errors(value))
    if error is not None:
        steps = list(error.absolute_path)
        claims = value.get("claims")
        where = ""
        if len(steps) > 1 and isinstance(claims, list) and isinstance(claims[steps[1]], dict):
            where = f"claim {claims[steps[1]].get('id', f'number {steps[1] + 1}')}: "
        raise InputError(path, f"{where}{'.'.join(map(str, steps[2:])) or 'entry'}: {_short(error.message)}")
    known = {"id", "group", "section", "says", "table", "kind", "each", "average"}
    claims = []
    for given in value["claims"]:
        details = {key: below for key, below in given.items() if key not in known}
        own = {key: given[key] for key in known & given.keys()}
        claim = Claim(**own, details=details, smallest=_smallest(given, value.get("smallest_effects", {})))
        if claim.id in {other.id for other in claims}:
            raise InputError(path, f"claim {claim.id} stands twice")
        try:
            comparisons(claim, lambda column: ["1", "2"])
        except InputError as wrong:
            raise InputError(path, str(wrong)) from None
        claims.append(claim)
    return claims


def _smallest(given: Mapping[str, Any], by_metric: Mapping[str, float]) -> float | None:
    """That of the claim's metric; a claim with a margin of its own says already what it takes for a difference."""
    if given["kind"] not in ("greater", "monotone") or "margin" in given:
        return None
    return by_metric.get(given.get("paired", {}).get("metric") or given.get("metric"))


def comparisons(claim: Claim, values: Callable[[str], Sequence[Value]]) -> list[ClaimComparison]:
    """The comparisons that a claim consists of.

    Args:
        values: the values that the claim's table has in a column, in order (for `all` and for `along`).

    Raises:
        InputError: a `$name` that neither `each` nor `average` gives, or an operand without a metric.
    """
    found = []
    for fixed in _combinations(claim.each, values):
        label = ", ".join(_named(name, value) for name, value in fixed.items())
        if claim.kind == "monotone":
            along = claim.details["along"]
            for before, after in pairwise(values(along)):
                pair = [_operand(claim, {**claim.details["of"], along: step}, fixed) for step in (after, before)]
                name = f"{_named(along, before)} to {_text(after)}"
                found.append(ClaimComparison(", ".join(filter(None, [label, name])), (tuple(pair),)))
            continue
        names = ("of",) if "of" in claim.details else ("first", "second")
        terms = [
            tuple(_operand(claim, claim.details[name], fixed | varied) for name in names)
            for varied in _combinations(claim.average, values)
        ]
        mean = f"mean over {' and '.join(claim.average)}" if claim.average else ""
        paired = None
        if "paired" in claim.details:
            paired = replace(_operand(claim, claim.details["paired"], fixed), optional=True)
        found.append(ClaimComparison(", ".join(filter(None, [label, mean])), tuple(terms), paired))
    return found


def _combinations(given: Mapping[str, Any], values: Callable[[str], Sequence[Value]]) -> list[dict[str, Value]]:
    listed = [values(name) if chosen == ALL else chosen for name, chosen in given.items()]
    return [dict(zip(given, combination, strict=True)) for combination in product(*listed)]


def _operand(claim: Claim, cell: Mapping[str, Value], names: Mapping[str, Value]) -> Operand:
    filled = {key: _fill(claim, value, names) for key, value in cell.items()}
    metric = filled.pop("metric", claim.details.get("metric"))
    if metric is None:
        raise InputError(f"claim {claim.id}", "no metric")
    return Operand(filled, str(metric))


def _fill(claim: Claim, value: Value, names: Mapping[str, Value]) -> Value:
    """`$name` alone keeps the kind of its value; within text it becomes text."""
    if not isinstance(value, str) or "$" not in value:
        return value
    try:
        return names[value[1:]] if value[1:] in names else Template(value).substitute(names)
    except (KeyError, ValueError):
        known = ", ".join(names) or "none"
        raise InputError(f"claim {claim.id}", f"{value!r} names something that is not given ({known})") from None


def _named(name: str, value: Value) -> str:
    """`n = 5`; of names the value says enough."""
    return str(value) if isinstance(value, str) else f"{NAMES.get(name, name)} = {_text(value)}"


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(message: str) -> str:
    return message if len(message) < 200 else message[:197] + "..."
