"""Pages of the report on what a run was made of: data, models, configuration, versions. They show any nested facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hps.evidence.render import NO_VALUE, Cell, Column, Page, Table, world_note
from hps.evidence.results import Training, read_csv
from hps.evidence.results import number as cell_number
from hps.support.errors import InputError
from hps.support.files import read_json

LISTED = 4
"""A fact with more different values than this is shown by their number, the first and the last."""
RESULT_ONLY = ("settings", "inputs")
"""Parts of a provenance that belong to one result alone."""


def flatten(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves of nested mappings by dotted key, in their order: `{"a": {"b": 1}}` gives `{"a.b": 1}`.

    A list of plain values is one leaf; the members of another list are numbered from 1.
    """
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        value = {str(number): item for number, item in enumerate(value, start=1)}
    if not isinstance(value, Mapping):
        return {key: value}
    leaves: dict[str, Any] = {}
    for name, below in value.items():
        leaves |= flatten(below, f"{key}.{name}" if key else str(name))
    return leaves


def text(value: Any) -> str:
    """A leaf for readers."""
    if value is None or value == "" or value == [] or value == {}:
        return NO_VALUE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(text, value)) if isinstance(value, list) else str(value)


def side_by_side(title: str, facts: Mapping[str, Mapping]) -> Table:
    """A row a fact, a column a label of `facts`; where a label lacks a fact, a dash."""
    leaves = {label: flatten(own) for label, own in facts.items()}
    keys = list(dict.fromkeys(key for own in leaves.values() for key in own))
    columns = [Column("")] + [Column(label, numeric=_numeric(own.values())) for label, own in leaves.items()]
    rows = [[Cell(_words(key))] + [Cell(text(own.get(key))) for own in leaves.values()] for key in keys]
    return Table(columns, rows, title)


def add_up(labelled: Iterable[tuple[str, Mapping]]) -> dict[str, dict[str, Any]]:
    """Facts with the same label (shards of one thing) as one, by dotted key.

    Numbers are added; other facts stay where all agree, and read "varies" where not.
    """
    sums: dict[str, dict[str, Any]] = {}
    for label, facts in labelled:
        total = sums.setdefault(label, {})
        for key, value in flatten(facts).items():
            if key not in total:
                total[key] = value
            elif _is_number(value) and _is_number(total[key]):
                total[key] += value
            elif value != total[key]:
                total[key] = "varies"
    return sums


def read_facts(paths: Iterable[str]) -> dict[Path, dict]:
    """JSON objects by their files. Raises InputError naming the file that is missing or something else."""
    facts = {Path(path): read_json(path) if Path(path).is_file() else None for path in paths}
    for path, value in facts.items():
        if not isinstance(value, dict):
            raise InputError(path, "missing" if value is None else "not a JSON object")
    return facts


def pages(
    counts: Mapping[Path, dict],
    candidates: Mapping[Path, dict],
    models: Mapping[Path, dict],
    trainings: Sequence[Training],
    resolved: Mapping[str, Any],
) -> dict[str, Page]:
    """The four pages by name, from facts by file (`read_facts`) and the resolved configuration."""
    shown = [
        {path: {k: v for k, v in own.items() if k != "provenance"} for path, own in facts.items()}
        for facts in (counts, candidates, models)
    ]
    shards = [(f"{path.parent.name}, {path.name.split('.')[0]}", facts) for path, facts in shown[1].items()]
    made = [
        facts["provenance"]
        for facts in (*counts.values(), *candidates.values(), *models.values())
        if "provenance" in facts
    ]
    return {
        "data": data_page(_by_folder(shown[0]), add_up(shards), trainings),
        "models": models_page(_by_folder(shown[2])),
        "configuration": configuration_page(resolved),
        "versions": versions_page([*made, *(training.provenance for training in trainings)]),
    }


def _by_folder(facts: Mapping[Path, dict]) -> dict[str, dict]:
    """Facts by the name of their folder. Raises InputError when two have the same."""
    named: dict[str, dict] = {}
    for path, own in facts.items():
        if path.parent.name in named:
            raise InputError(path, f"a second file of {path.parent.name}")
        named[path.parent.name] = own
    return named


def data_page(counts: Mapping[str, Mapping], candidates: Mapping[str, Mapping], trainings: Sequence[Training]) -> Page:
    """What was read and what was left out, by reason and data set; what was generated; what was trained on."""
    tables = []
    if counts:
        tables.append(side_by_side("Read from the data files", counts))
    if candidates:
        tables.append(side_by_side("Generated responses", candidates))
    if trainings:
        tables.append(_used(trainings))
    return Page("Data", tables, ["Counts of what each stage read, made and left out, with the reason."])


def models_page(models: Mapping[str, Mapping]) -> Page:
    """A column a model: its source, its size, and what was measured when it was made."""
    return Page("Models", [side_by_side("", models)], ["Each model of the run, by role."])


def configuration_page(resolved: Mapping[str, Any]) -> Page:
    """Every key of the resolved configuration with its value and the layer it came from."""
    rows = []
    for key, value in flatten(resolved["values"]).items():
        origin = next((resolved["origins"][part] for part in _prefixes(key) if part in resolved["origins"]), NO_VALUE)
        rows.append([Cell(key.split(".")[0]), Cell(key), Cell(text(value)), Cell(origin)])
    table = Table([Column("Section"), Column("Key"), Column("Value"), Column("Set by")], rows, header=1, block=0)
    return Page("Configuration", [table], ["As resolved from all layers, before the first job ran."])


def versions_page(provenances: Sequence[Mapping]) -> Page:
    """What all results record about how they were made, and what differs between them."""
    values: dict[str, dict[str, int]] = {}
    for provenance in provenances:
        shared = {key: value for key, value in provenance.items() if key not in RESULT_ONLY}
        for key, value in flatten(shared).items():
            seen = values.setdefault(key, {})
            seen[text(value)] = seen.get(text(value), 0) + 1
    same, different = [], []
    for key, seen in values.items():
        if len(seen) == 1:
            same.append([Cell(_words(key)), Cell(next(iter(seen)))])
        else:
            listed = "; ".join(f"{value} ({count})" for value, count in seen.items())
            shown = listed if len(seen) <= LISTED else f"{len(seen)} values, from {min(seen)} to {max(seen)}"
            different.append([Cell(_words(key)), Cell(shown)])
    columns = [Column(""), Column("Value")]
    tables = [Table(columns, same, "The same in all results that record it")] if same else []
    if different:
        tables.append(Table([Column(""), Column("Values (results)")], different, "Not the same in all"))
    note = f"From {len(provenances)} result files of this run; each also records its settings and its inputs' hashes."
    return Page("Versions", tables, [note])


def benchmark_files(folder: str | Path) -> dict[str, list[Path]]:
    """Snakemake's benchmark files by stage, the first part of their path."""
    stages: dict[str, list[Path]] = {}
    for path in sorted(Path(folder).rglob("*.tsv")):
        stages.setdefault(path.relative_to(folder).parts[0].removesuffix(".tsv"), []).append(path)
    return stages


def cost_page(stages: Mapping[str, Sequence[Path]], world: str) -> Page:
    """Jobs, hours and memory of each stage, from its jobs' benchmark files. Raises InputError naming a broken file."""
    rows, total = [], 0.0
    for stage, paths in stages.items():
        seconds, _, memory = job_costs(paths)
        total += sum(seconds)
        peak = f"{max(memory) / 1024:.2f}" if memory else NO_VALUE
        rows.append([Cell(stage), *_cost(len(seconds), sum(seconds)), Cell(f"{max(seconds):.0f}"), Cell(peak)])
    jobs = sum(int(row[1].text) for row in rows)
    rows.append([Cell("all"), *_cost(jobs, total), Cell(NO_VALUE), Cell(NO_VALUE)])
    names = ["Jobs", "Wall time, sum (s)", "Sum (h)", "Longest job (s)", "Largest memory (GiB)"]
    columns = [Column("Stage"), *(Column(name, numeric=True) for name in names)]
    note = "Wall time is added up over jobs, which may run at the same time. Memory is that of the largest job."
    return Page("Cost", [Table(columns, rows)], [*world_note(world), note])


def job_costs(paths: Sequence[Path]) -> tuple[list[float], list[float], list[float]]:
    """Wall seconds of jobs; and, as far as they were looked at while they ran, seconds of a core and memory in MiB.

    From Snakemake's benchmark files. Raises InputError naming a broken file.
    """
    seconds, core_seconds, memory = [], [], []
    for path in paths:
        for row in read_csv(path, ("s", "max_rss", "cpu_time"), delimiter="\t"):
            seconds.append(cell_number(row, "s", path))
            for column, found in (("cpu_time", core_seconds), ("max_rss", memory)):
                found += [] if row[column] in ("", "NA", "-") else [cell_number(row, column, path)]
    return seconds, core_seconds, memory


def _cost(jobs: int, seconds: float) -> list[Cell]:
    return [Cell(str(jobs)), Cell(f"{seconds:.0f}"), Cell(f"{seconds / 3600:.2f}")]


def _used(trainings: Sequence[Training]) -> Table:
    """Prompts trained on and left out; a row for all trainings with the same numbers."""
    groups: dict[tuple, int] = {}
    keys = list(dict.fromkeys(key for training in trainings for key in flatten(training.counts)))
    for training in trainings:
        counts = flatten(training.counts)
        row = (training.run.dataset, training.run.n, training.groups, *(text(counts.get(key)) for key in keys))
        groups[row] = groups.get(row, 0) + 1
    names = ["n", "Prompts", *map(_words, keys), "Trainings"]
    columns = [Column("Data set"), *(Column(name, numeric=True) for name in names)]
    return Table(columns, [[Cell(str(part)) for part in (*row, count)] for row, count in groups.items()], "Trained on")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numeric(values: Iterable[Any]) -> bool:
    return all(value is None or _is_number(value) for value in values)


def _prefixes(key: str) -> list[str]:
    """`a.b.c`, `a.b`, `a`: a layer may have set a whole list or section."""
    parts = key.split(".")
    return [".".join(parts[:length]) for length in range(len(parts), 0, -1)]


def _words(key: str) -> str:
    return key.replace("_", " ").replace(".", " › ")
