"""Print what the configured run will cost, stage by stage, and write the times to ask SLURM for.

    python workflow_scripts/plan.py --given '{"preset": "paper", "protocol": "paper", ...}' \\
        --results results/paper --benchmarks benchmarks/results --profile slurm/config.yaml --out results/paper/plan

--out gets plan.json and, where there is a profile, config.yaml: the same profile with run times from the estimate. Use
it in the profile's place: snakemake --profile results/paper/plan all
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hps.evidence import render
from hps.evidence.render import Cell, Column, Page, Table, number
from hps.planning import rates
from hps.planning.inputs import architectures, datasets
from hps.planning.plan import Planner
from hps.planning.stages import CostEstimate, Stage, Volume
from hps.support import cli
from hps.support.cli import argument
from hps.support.files import write_json, write_text
from hps.workflow import config

HOUR, GIB, GB = 3600, 2**30, 1e9
VOLUME = {
    "jobs": "Jobs",
    "prompts": "Prompts",
    "responses": "Responses",
    "read": "Tokens read",
    "generated": "Tokens generated",
    "trained": "Tokens trained on",
}


@dataclass(kw_only=True)
class Arguments:
    given: str = argument("config.yaml with the command line over it, as JSON")
    results: str = argument("folder of the run's results; what is there already is measured, not assumed")
    benchmarks: str = argument("folder of the benchmark files", "benchmarks/results")
    profile: str = argument("Snakemake profile whose run times are replaced; one that is not there: none", "")
    safety: float = argument("a job may take this many times its estimate", 2.0)
    out: str = argument("folder to write")


def main(arguments: Arguments) -> None:
    resolved = config.load(Path(__file__).parents[1], json.loads(arguments.given))
    results = Path(arguments.results)
    planner = Planner(
        resolved,
        datasets(resolved, results),
        architectures(resolved, results),
        rates.load(Path(arguments.benchmarks), resolved["plan"]["device"]),
    )
    estimate = planner.estimate()
    minutes = estimate.minutes(arguments.safety)
    out = Path(arguments.out)
    write_json(out / "plan.json", as_dict(estimate, minutes))
    print(render.markdown(page(resolved, planner, estimate)))
    if arguments.profile and Path(arguments.profile).is_file():
        text = Path(arguments.profile).read_text(encoding="utf-8")
        write_text(out / "config.yaml", with_run_times(text, minutes))
        print(f"Run times of this estimate, times {arguments.safety:g}: snakemake --profile {out} all")


def page(resolved: config.Config, planner: Planner, estimate: CostEstimate) -> Page:
    """The estimate as a table with totals, and what it rests on."""
    device = "CPU" if planner.rates.is_cpu else "GPU"
    unit = "minutes" if estimate.seconds < 20 * HOUR else "hours"
    names = ("Jobs", f"{device}-{unit}", "Paper style", f"Wall-clock {unit}", f"Longest job, {unit}")
    columns = [Column("Stage"), *(Column(name, numeric=True) for name in names)]
    columns += [Column("Peak memory, GiB", numeric=True), Column("Disk, GB", numeric=True)]
    rows = [cells(stage, estimate.devices, unit) for stage in estimate.stages]
    rows.append(
        [
            Cell("total"),
            Cell(str(sum(stage.jobs for stage in estimate.stages))),
            *(Cell(time(value, unit)) for value in (estimate.seconds, estimate.paper_style, estimate.wall)),
            Cell(""),
            Cell(number(max(stage.memory for stage in estimate.stages) / GIB, 1)),
            Cell(number(sum(stage.disk for stage in estimate.stages) / GB, 2)),
        ]
    )
    notes = [
        f"Preset {resolved['preset']}, protocol {resolved['protocol']}, on {estimate.devices} x {planner.rates.device}."
    ]
    notes += [f"- {assumption}" for assumption in estimate.assumptions]
    legend = [
        f"{device}-{unit} are those of all jobs. Paper style: every response with a prompt of its own, logits of every "
        "token, the reference in every training step (so no stage of its own), one-by-one annotation.",
    ]
    memory = planner.rates.gpu.memory if planner.rates.gpu else None
    tight = [stage.rule for stage in estimate.stages if memory and stage.memory > 0.92 * memory]
    if tight:
        legend.append(
            f"Warning: by this estimate {', '.join(tight)} will not fit into the {memory / GB:.0f} GB of one device."
        )
    tables = [Table(columns, rows), volumes(estimate)]
    return Page("What the run will cost: an estimate", tables, ["\n".join(notes)], legend)


def volumes(estimate: CostEstimate) -> Table:
    """Jobs, prompts, responses and tokens by stage and data set; of all stages jobs and tokens."""
    lines = [
        (stage.rule, name, own)
        for stage in estimate.stages
        for name, own in (stage.volumes or {"": Volume(stage.jobs)}).items()
    ]
    whole = sum((own for *_, own in lines), Volume())
    lines.append(
        ("total", "", replace(whole, jobs=sum(stage.jobs for stage in estimate.stages), prompts=0, responses=0))
    )
    columns = [Column("Stage"), Column("Data set"), *(Column(name, numeric=True) for name in VOLUME.values())]
    rows = [
        [
            Cell(rule),
            Cell(name),
            *(Cell(f"{getattr(own, field):,.0f}" if getattr(own, field) else "") for field in VOLUME),
        ]
        for rule, name, own in lines
    ]
    return Table(columns, rows, "Prompts, responses and tokens")


def cells(stage: Stage, devices: int, unit: str) -> list[Cell]:
    return [
        Cell(stage.rule),
        Cell(str(stage.jobs)),
        *(Cell(time(value, unit)) for value in (stage.seconds, stage.paper_style, stage.wall(devices), stage.longest)),
        Cell(number(stage.memory / GIB, 1) if stage.memory else ""),
        Cell(number(stage.disk / GB, 2)),
    ]


def time(seconds: float, unit: str) -> str:
    value = seconds / (HOUR if unit == "hours" else 60)
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def as_dict(estimate: CostEstimate, minutes: dict[str, int]) -> dict[str, Any]:
    stages = [
        asdict(stage) | {"wall": stage.wall(estimate.devices), "minutes": minutes[stage.rule]}
        for stage in estimate.stages
    ]
    totals = {"seconds": estimate.seconds, "wall": estimate.wall, "paper_style": estimate.paper_style}
    return {"stages": stages, **totals, "devices": estimate.devices, "assumptions": estimate.assumptions}


def with_run_times(profile: str, minutes: dict[str, int]) -> str:
    """The profile with `runtime` of each rule in `set-resources` replaced where the estimate has the rule."""
    import yaml

    values = yaml.safe_load(profile)
    for rule, resources in values.get("set-resources", {}).items():
        if rule in minutes:
            resources["runtime"] = minutes[rule]
    return yaml.safe_dump(values, sort_keys=False, width=120)


if __name__ == "__main__":
    cli.run(main, Arguments)
