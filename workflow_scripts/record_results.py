"""Record what a run measured, small enough to commit: its tables, claims, audit and theory, and a summary of its logs.

    python workflow_scripts/record_results.py --results results/smollm2 --command "make real" \\
        --out results/smollm2/measured/2026-11-24
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from hps.evidence.overview import benchmark_files, job_costs
from hps.evidence.results import read_jsonl
from hps.support import cli
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import read_json, write_json, writing


@dataclass(kw_only=True)
class Arguments:
    results: str = argument("folder of the run, results/<name>")
    command: str = argument("the exact command that made it")
    out: str = argument("folder to write")


def main(arguments: Arguments) -> None:
    results = Path(arguments.results)
    found = [path for folder in ("tables", "claims", "audit", "theory") for path in results.glob(f"{folder}/*")]
    tables = sorted(path for path in found if path.suffix in (".csv", ".md"))
    if not tables:
        raise InputError(results, "has no tables to record")
    with writing(arguments.out) as folder:
        folder.mkdir()
        for path in tables:
            shutil.copy(path, folder)
        write_json(folder / "summary.json", summary(results, arguments.command))


def summary(results: Path, command: str) -> dict:
    """What the run's logs say: when and with what, models, data, trainings, and the time of each stage."""
    every = [*results.glob("models/*/model.json"), *results.glob("candidates/*/*.json")]
    every += [*results.glob("runs/**/training.json"), *results.glob("evaluations/**/evaluation.json")]
    records = [read_json(path).get("provenance", {}) for path in every]
    dated = sorted((record for record in records if "time" in record), key=lambda record: record["time"])
    if not dated:
        raise InputError(results, "has no model, training or evaluation that records what made it")
    made_with = dated[-1]
    return {
        "command": command,
        "from": dated[0]["time"],
        "to": made_with["time"],
        "code versions": sorted({record["code"] for record in records if "code" in record}),
        **{key: made_with[key] for key in ("python", "platform", "threads", "packages")},
        "models": {path.parent.name: _without_provenance(path) for path in sorted(results.glob("models/*/model.json"))},
        "data": {path.parent.name: data_counts(path) for path in sorted(results.glob("data/*/counts.json"))},
        "human pairs of the audit": {
            path.parent.name: data_counts(path)["parts"]
            for path in sorted(results.glob("audit/human_pairs/*/counts.json"))
        },
        "candidates": {
            f"{path.parent.name}/{path.stem}": _without_provenance(path)
            for path in sorted(results.glob("candidates/*/*.json"))
        },
        "trainings": [training_summary(path.parent) for path in sorted(results.glob("runs/**/training.json"))],
        **stage_costs(results / "benchmarks"),
    }


def training_summary(folder: Path) -> dict:
    """A run, what it was trained on, its time, and its first and last step."""
    facts = _without_provenance(folder / "training.json")
    log = list(read_jsonl(folder / "log.jsonl"))
    return facts | {"first step": log[0], "last step": log[-1]}


def data_counts(path: Path) -> dict:
    """What was read and left out; of the source files the name and the hash, not where they lie on this machine."""
    counts = read_json(path)
    for part in counts.get("parts", {}).values():
        for source in part["sources"]:
            if "path" in source:
                source["path"] = Path(source["path"]).name
    return counts


def stage_costs(benchmarks: Path) -> dict[str, dict[str, float]]:
    """Of the jobs of each stage, from Snakemake's benchmark files: seconds together, and the largest one's memory.

    Seconds of a core say what was computed, whatever else the machine was doing.
    """
    costs = {stage: job_costs(paths) for stage, paths in benchmark_files(benchmarks).items()}
    return {
        "seconds by stage (sum over jobs)": {stage: round(sum(seconds), 1) for stage, (seconds, *_) in costs.items()},
        "core seconds by stage (sum over jobs)": {stage: round(sum(core), 1) for stage, (_, core, _) in costs.items()},
        "MiB by stage (largest job)": {stage: round(max(memory)) for stage, (*_, memory) in costs.items() if memory},
    }


def _without_provenance(path: Path) -> dict:
    return {key: value for key, value in read_json(path).items() if key != "provenance"}


if __name__ == "__main__":
    cli.run(main, Arguments)
