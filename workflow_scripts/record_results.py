"""Record what a run measured, small enough to commit: tables, figures, claims, audit, theory, a summary of its logs.

    python workflow_scripts/record_results.py --results results/smollm2 --command "make real" \\
        --out results/smollm2/measured/2026-11-24

Beside them `per_seed.csv` has the mean of every metric of each policy on each test set. With `--per-prompt`,
`per_prompt.csv.gz` has the values themselves, from which intervals and verdicts can be computed anew without a GPU.
"""

import gzip
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hps.evidence.metrics import METRICS, VARIANTS, measures
from hps.evidence.overview import benchmark_files, job_costs
from hps.evidence.results import Evaluation, csv_text, plain, read_evaluation, read_jsonl
from hps.support import cli
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import read_json, write_json, write_text, writing


@dataclass(kw_only=True)
class Arguments:
    results: str = argument("folder of the run, results/<name>")
    command: str = argument("the exact command that made it")
    out: str = argument("folder to write")
    per_prompt: bool = argument("also each test prompt's values, some megabytes in a large run", False)


PARTS = ("tables", "figures", "claims", "audit", "theory")


def main(arguments: Arguments) -> None:
    results = Path(arguments.results)
    found = [path for folder in PARTS for path in results.glob(f"{folder}/*")]
    tables = sorted(path for path in found if path.suffix in (".csv", ".md", ".tex", ".svg"))
    if not tables:
        raise InputError(results, "has no tables to record")
    with writing(arguments.out) as folder:
        folder.mkdir()
        for path in tables:
            shutil.copy(path, folder)
        files = sorted(results.glob("evaluations/**/evaluation.json"))
        evaluations = [read_evaluation(path.parent) for path in files]
        if evaluations:
            write_text(folder / "per_seed.csv", csv_text([*COLUMNS, "prompts", *MEASURED], map(means, evaluations)))
        if arguments.per_prompt:
            rows = (row for evaluation in evaluations for row in values(evaluation))
            text = csv_text([*COLUMNS, "prompt_id", *MEASURED], rows).encode()
            (folder / "per_prompt.csv.gz").write_bytes(gzip.compress(text, mtime=0))
        write_json(folder / "summary.json", summary(results, arguments.command))


COLUMNS = ("trained_on", "method", "n", "beta", "responses", "settings", "seed", "evaluated_on")
MEASURED = {
    name: of
    for name, of in measures({key: names[0] for key, names in VARIANTS.items()})
    if name not in METRICS or not METRICS[name].variant
}
"""Every metric, of one with variants each of them: how its values are computed."""


def policy(evaluation: Evaluation) -> dict:
    """Which policy was evaluated, and on what. What only a trained one has is empty for the SFT policy."""
    run = evaluation.run.record() if evaluation.run else {}
    return {
        "trained_on": run.get("dataset", ""),
        "method": evaluation.method,
        **{name: run.get(name, "") for name in ("n", "beta")},
        "responses": evaluation.responses or "",
        "settings": json.dumps(run.get("settings", {})),
        "seed": evaluation.seed,
        "evaluated_on": evaluation.test_set,
    }


def means(evaluation: Evaluation) -> dict:
    """A row of per_seed.csv; a cell is empty where no prompt has a value."""
    found = {name: of(evaluation) for name, of in MEASURED.items()}
    mean = {name: plain(float(np.nanmean(v))) if not np.isnan(v).all() else "" for name, v in found.items()}
    return policy(evaluation) | {"prompts": len(evaluation.prompt_ids)} | mean


def values(evaluation: Evaluation) -> Iterator[dict]:
    """Rows of per_prompt.csv.gz, in four significant digits."""
    found = {name: of(evaluation) for name, of in MEASURED.items()}
    for number, prompt_id in enumerate(evaluation.prompt_ids):
        row = {name: "" if np.isnan(v[number]) else f"{v[number]:.4g}" for name, v in found.items()}
        yield policy(evaluation) | {"prompt_id": prompt_id} | row


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
        "gpus": [
            json.loads(gpu) for gpu in sorted({json.dumps(record["gpu"]) for record in records if record.get("gpu")})
        ],
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
