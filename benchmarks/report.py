"""The results as JSON, as a Markdown table and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.reading import PAPER
from hps.evidence.render import Cell, Column, Page, Table, markdown, number
from hps.support import provenance
from hps.support.files import read_json, write_json, write_text


def merged(path: Path, new: dict[str, Any]) -> dict[str, Any]:
    """`new` over what the file holds: rows, curves and throughputs of the same name are replaced, others stay.

    Each of them carries the code version and time it was measured at, since they may come from several runs.
    """
    old = read_json(path) if path.is_file() else {}
    result = {"machine": new["machine"]}
    for section, key in SECTIONS.items():
        kept = {key(entry): entry for entry in old.get(section, [])}
        kept |= {key(entry): entry for entry in new.get(section, [])}
        if kept:
            result[section] = list(kept.values())
    if kept := old.get("machine", {}).get("seconds"):
        result["machine"] = result["machine"] | {"seconds": kept | result["machine"].get("seconds", {})}
    start_up = new.get("start_up") or old.get("start_up")
    return result | ({"start_up": start_up} if start_up else {})


SECTIONS = {
    "rows": lambda entry: entry["name"],
    "growth": lambda entry: entry["over"],
    "speeds": lambda entry: entry["name"],
    "throughput": lambda entry: (entry["work"], entry["model"], entry["threads"]),
    "reading": lambda entry: entry["what"],
    "checks": lambda entry: entry["name"],
    "choices": lambda entry: (entry["name"], entry["value"], entry["loss"]),
    "parts": lambda entry: entry["name"],
}


def add(measured: dict[str, Any], about: dict[str, Any], folder: Path) -> None:
    """Write `measured` over what `folder` has of this machine; each entry is stamped with code version and time."""
    stamp = {"code": provenance.code_version(), "time": provenance.collect({}, [])["time"]}
    for section in SECTIONS:
        for entry in measured.get(section, []):
            entry.update(stamp)
    about |= {"packages": machine.packages(), **stamp}
    write(merged(folder / f"{about['name']}.json", measured | {"machine": about}), folder)


def page(results: dict[str, Any]) -> Page:
    """Everything measured on one machine."""
    about = results["machine"]
    tables = []
    if results.get("rows"):
        columns = [
            Column("What"),
            *(Column(name, numeric=True) for name in ("Median", "Range", "Target")),
            Column("Verdict"),
            Column("Measured with"),
        ]
        tables.append(Table(columns, [ratio_cells(row) for row in results["rows"]], "Ratios"))
    if results.get("speeds"):
        names = ("Seconds a step", "Tokens a second", "Peak memory, GiB", "Share of the peak")
        columns = [Column("Training"), *(Column(name, numeric=True) for name in names), Column("Measured with")]
        tables.append(Table(columns, [speed_cells(entry) for entry in results["speeds"]], "Training steps"))
    if results.get("growth"):
        columns = [Column("Step time over"), Column("Exponent", numeric=True), Column("Of the last two", numeric=True)]
        columns += [Column("x"), Column("Seconds")]
        tables.append(Table(columns, [growth_cells(curve) for curve in results["growth"]], "Growth"))
    if results.get("throughput"):
        names = ("Tokens a second", "Operations a second")
        columns = [Column("Work"), Column("Model"), Column("dtype"), Column("Threads", numeric=True)]
        columns += [Column(name, numeric=True) for name in names]
        tables.append(Table(columns, [rate_cells(entry) for entry in results["throughput"]], "Rates for the plan"))
    if results.get("reading"):
        names = ("Responses", "Seconds on a core", "Peak memory, GiB", "Of its own at the end, GiB")
        columns = [Column("What"), *(Column(name, numeric=True) for name in names)]
        cells = [row for entry in results["reading"] for row in reading_cells(entry)]
        tables.append(Table(columns, cells, "Reading what a training is made from"))
    if results.get("choices"):
        columns = [Column("Value of"), Column("is", numeric=True), Column("Loss")]
        columns += [Column(name, numeric=True) for name in ("Seconds a step", "Peak memory, GiB")]
        columns += [Column("In use"), Column("Measured with")]
        tables.append(Table(columns, [choice_cells(entry) for entry in results["choices"]], "Choices"))
    if results.get("checks"):
        columns = [Column("Check"), Column("Holds"), Column("Found")]
        cells = [
            [Cell(one["name"]), Cell("yes" if one["holds"] else "no"), Cell(one["said"])] for one in results["checks"]
        ]
        tables.append(Table(columns, cells, "Is it computed right?"))
    if results.get("parts"):
        columns = [Column("Part"), Column("Seconds", numeric=True), Column("What came of it")]
        cells = [
            [Cell(one["name"]), Cell(number(one["seconds"], 1)), Cell(one["error"] or one["skipped"] or "done")]
            for one in results["parts"]
        ]
        tables.append(Table(columns, cells, "Parts of `make gpu-check`"))
    state = f"load average at the start {about['load_average_at_start']}"
    notes = [f"{about.get('gpu', about['cpu'])}, {about['cores']} cores, {about['threads']} threads; {state}."]
    if "seconds" in about:
        notes.append(f"Measuring took {sum(about['seconds'].values()) / 60:.1f} minutes.")
    if "note" in about:
        notes.append(about["note"])
    if results.get("start_up"):
        spent = results["start_up"]
        notes += [
            f"A {job} job begins to compute after {spent[f'{job}_ready']:.1f} s; one with next to nothing to compute "
            f"takes {spent[job]:.1f} s."
            for job in ("train", "score")
        ]
        notes.append(f"The launcher of several processes adds {spent['launcher']:.1f} s.")
    legend = [
        "A ratio is the median over repeats of the ratio within a repeat, cases taking turns; the range is its "
        "smallest and largest. A verdict goes by the median. HPS / BT is the ratio of the totals in place of a median.",
    ]
    return Page(f"Benchmarks: {about['name']}", tables, notes, legend)


def ratio_cells(row: dict[str, Any]) -> list[Cell]:
    ratio = row["ratio"]
    target = row["target"] or {}
    bound = " ".join(f"{'≥' if kind == 'at_least' else '≤'} {value:g}" for kind, value in target.items())
    how = f"{row['model']}, {row['dtype']}, {row['pairs']}, {row['repeats']} repeats"
    return [
        Cell(row["what"]),
        Cell(number(ratio["median"])),
        Cell(f"{number(ratio['min'])} to {number(ratio['max'])}"),
        Cell(bound),
        Cell({"met": "met", "short": "short of target"}.get(row["verdict"], "")),
        Cell(how),
    ]


def speed_cells(entry: dict[str, Any]) -> list[Cell]:
    share = entry["share_of_peak"]
    return [
        Cell(entry["what"]),
        Cell(number(entry["seconds"]["median"])),
        Cell(f"{entry['tokens_per_second']:,.0f}"),
        Cell(number(entry["peak_memory"] / 2**30, 1)),
        Cell("" if share is None else number(share)),
        Cell(f"{entry['model']}, {entry['dtype']}, {entry['pairs']}, {entry['repeats']} repeats"),
    ]


def choice_cells(entry: dict[str, Any]) -> list[Cell]:
    return [
        Cell(entry["name"]),
        Cell(f"{entry['value']:,}"),
        Cell(entry["loss"].upper()),
        Cell(number(entry["seconds"]["median"])),
        Cell(number(entry["peak_memory"] / 2**30, 1)),
        Cell("yes" if entry["in_use"] else ""),
        Cell(f"{entry['model']}, {entry['dtype']}, {entry['pairs']}, {entry['repeats']} repeats"),
    ]


def growth_cells(curve: dict[str, Any]) -> list[Cell]:
    return [
        Cell(curve["what"]),
        Cell(number(curve["exponent"], 2)),
        Cell(number(curve["exponent_of_the_last_two"], 2)),
        Cell(", ".join(f"{x:,}" for x in curve["x"])),
        Cell(", ".join(f"{seconds['median']:.3g}" for seconds in curve["seconds"])),
    ]


def rate_cells(entry: dict[str, Any]) -> list[Cell]:
    return [
        Cell(entry["work"]),
        Cell(entry["model"]),
        Cell(entry["dtype"]),
        Cell(str(entry["threads"])),
        Cell(f"{entry['tokens_per_second']:,.0f}"),
        Cell(f"{entry['flops_per_second']:.3g}"),
    ]


def reading_cells(entry: dict[str, Any]) -> list[list[Cell]]:
    """A row for each size measured, and one for the paper's."""
    measured = zip(*(entry[key] for key in ("responses", "seconds", "peak", "own")), strict=True)
    more = ", in proportion"
    at_paper = (PAPER, *(entry["at_paper"][key] for key in ("seconds", "peak", "own")))
    return [
        [
            Cell(entry["what"] + estimated),
            Cell(f"{responses:,}"),
            Cell(number(seconds, 1)),
            Cell(number(peak / 2**30, 2)),
            Cell(number(own / 2**30, 2)),
        ]
        for (responses, seconds, peak, own), estimated in [*((one, "") for one in measured), (at_paper, more)]
    ]


def write(results: dict[str, Any], folder: Path) -> None:
    """`<machine>.json`, `.md`, and where growth was measured `.png` and `.svg`."""
    name = results["machine"]["name"]
    write_json(folder / f"{name}.json", results)
    write_text(folder / f"{name}.md", markdown(page(results)))
    if results.get("growth"):
        figure(results["growth"], folder / f"{name}.png", folder / f"{name}.svg")


def figure(curves: Sequence[dict[str, Any]], png: Path, svg: Path) -> None:
    """Step time over n, prompt length and model size, each with its fitted power law, on logarithmic axes."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    from hps.evidence.figures.style import SETTINGS, save

    names = {
        "n": "responses a prompt (PL)",
        "prompt": "tokens of the prompt (BT)",
        "size": "weights of the decoder (BT)",
    }
    with mpl.rc_context(SETTINGS):
        drawn = Figure(figsize=(4 * len(curves), 3.6), layout="constrained")
        for axes, curve in zip(drawn.subplots(1, len(curves), squeeze=False)[0], curves, strict=True):
            x, seconds = curve["x"], curve["seconds"]
            middle = [one["median"] for one in seconds]
            reach = [[one["median"] - one["min"] for one in seconds], [one["max"] - one["median"] for one in seconds]]
            axes.errorbar(x, middle, yerr=reach, color="#0072B2", marker="o", linestyle="none", capsize=3)
            fitted = [curve["factor"] * value ** curve["exponent"] for value in x]
            axes.plot(x, fitted, color="#D55E00", label=f"exponent {curve['exponent']:.2f}")
            axes.set(xscale="log", yscale="log", xlabel=names[curve["over"]], ylabel="seconds a step")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_minor_locator(NullLocator())
            axes.set_xticks(x, [f"{value / 1e6:.3g} M" if value > 9999 else str(value) for value in x])
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.legend()
        save(drawn, png, svg)
