"""Makes one part of the report from what a run left behind: `report.py PART --help` says what a part needs.

    python workflow_scripts/report.py table --name table2 --config results/tiny/config.json \
        --evaluations EVALUATION_FOLDER... --out results/tiny/tables

A part reads of the resolved configuration only what it depends on (hps/evidence/needs.py); its files go into --out.
"""

import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from hps.evidence import render, results
from hps.evidence.latex import latex
from hps.evidence.needs import needed, read_config
from hps.evidence.tables import EVALUATIONS, FOLDER, FRONTIER, JUDGEMENTS, RATINGS, TRAININGS, TableSpec, tables
from hps.support import cli, files
from hps.support.cli import argument
from hps.support.errors import InputError


@dataclass(kw_only=True)
class Part:
    config: str = argument("the resolved configuration, RESULTS/config.json, or the keys that the part needs, as JSON")
    out: str = argument("output folder")


@dataclass(kw_only=True)
class PaperPart(Part):
    paper: str = argument("folder of the paper's numbers", FOLDER)


def write(arguments: Part, name: str, page: render.Page, csv: str) -> None:
    """NAME.csv, NAME.md and NAME.html."""
    files.write_text(Path(arguments.out) / f"{name}.csv", csv)
    files.write_text(Path(arguments.out) / f"{name}.md", render.markdown(page))
    files.write_text(Path(arguments.out) / f"{name}.html", render.html(page))
    logging.info("%s: %d rows", page.title, len(page.tables[0].rows))


def draw(arguments: Part, name: str, figure: Any, world: str = "") -> None:
    """NAME.png and NAME.svg."""
    from hps.evidence.figures import style

    style.save(figure, *(Path(arguments.out) / f"{name}.{kind}" for kind in ("png", "svg")), world)


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class TablePart(PaperPart):
    name: str = argument("which table: table2, training_time, ablation_<name>, ...")
    evaluations: list[str] = argument("folders of evaluation.json and per_prompt.parquet", [])
    trainings: list[str] = argument("for training_time: folders of training.json", [])
    benchmarks: list[str] = argument("for training_time: their jobs' benchmark files, in the same order", [])
    judge: str = argument("for table4: folder of judgements.parquet and judge.json", "")
    key: str = argument("for table3: key.json of the study", "")
    ratings: list[str] = argument("for table3: returned files (JSON); none: the table says so", [])


def table(arguments: TablePart) -> None:
    """One table, ours beside the paper's: CSV, Markdown, LaTeX, HTML."""
    config = read_config(arguments.config)
    spec = named(config, arguments.name)
    csv, page = MAKERS[spec.source](spec, arguments, needed(config, "table", spec.needs))
    write(arguments, spec.name, page, csv)
    files.write_text(Path(arguments.out) / f"{spec.name}.tex", latex(page, spec.caption, spec.name))


def named(config: Mapping[str, Any], name: str) -> TableSpec:
    ablation = f"ablations.over.{name.removeprefix('ablation_')}"
    known = tables({ablation.rpartition(".")[2]: config[ablation]} if ablation in config else {})
    if name not in known:
        raise InputError("--name", f"{name}: no such table; there are {', '.join(known)}")
    return known[name]


def given(arguments: TablePart, name: str) -> Any:
    if not getattr(arguments, name):
        raise InputError(f"--{name}", f"{arguments.name} needs it")
    return getattr(arguments, name)


def of_evaluations(spec: TableSpec, arguments: TablePart, config: Mapping[str, Any]) -> tuple[str, render.Page]:
    from hps.evidence import attribution, table_page, table_rows

    pair, bleu, world = (config[key] for key in ("evaluation.margin_pair", "evaluation.bleu", "world"))
    choices = table_rows.Choices(pair, bleu, config.get(spec.varies))
    rows = table_rows.build(spec, map(results.read_evaluation, given(arguments, "evaluations")), choices)
    if not spec.parts:
        page = table_page.to_page(spec, rows, choices, arguments.paper, world)
        return table_rows.to_csv(spec, rows, choices), page
    effects = attribution.contrasts(spec, rows, choices, config["objective.multiplicity"])
    page = attribution.to_page(spec, rows, effects, choices, config["objective.multiplicity"], world)
    return attribution.to_csv(effects), page


def of_trainings(spec: TableSpec, arguments: TablePart, config: Mapping[str, Any]) -> tuple[str, render.Page]:
    from hps.evidence import training_time

    trainings = [results.read_training(folder) for folder in given(arguments, "trainings")]
    if len(trainings) != len(arguments.benchmarks):
        raise InputError("--benchmarks", f"{len(arguments.benchmarks)} files for {len(trainings)} trainings: one each")
    paper = training_time.read_paper_hours(Path(arguments.paper) / spec.paper)
    seconds = [results.read_benchmark_seconds(path) for path in arguments.benchmarks]
    times = training_time.measure(trainings, seconds, list(paper))
    return training_time.to_csv(times), training_time.to_page(times, trainings, paper, config["world"])


def of_judgements(spec: TableSpec, arguments: TablePart, config: Mapping[str, Any]) -> tuple[str, render.Page]:
    from hps.judge.comparisons import JUDGEMENTS as COLUMNS
    from hps.judge.comparisons import read_facts
    from hps.judge.table import to_csv, to_page
    from hps.judge.verdicts import win_rates

    folder = Path(given(arguments, "judge"))
    facts = read_facts(folder / "judge.json")
    judgements = files.read_table(folder / "judgements.parquet", COLUMNS.names)
    rates = win_rates(judgements)
    page = to_page(rates, Path(arguments.paper) / spec.paper, facts, config["world"])
    return to_csv(rates, facts["model"]), page


def of_ratings(spec: TableSpec, arguments: TablePart, config: Mapping[str, Any]) -> tuple[str, render.Page]:
    from hps.user_study.design import read_key
    from hps.user_study.ratings import read_ratings
    from hps.user_study.scores import score
    from hps.user_study.table import to_csv, to_page

    key = read_key(given(arguments, "key"))
    ratings = read_ratings(arguments.ratings, key) if arguments.ratings else None
    scores = score(ratings, seed=0) if ratings else None
    page = to_page(key, ratings, scores, Path(arguments.paper) / spec.paper, config["world"])
    return to_csv(key, ratings, scores), page


MAKERS = {EVALUATIONS: of_evaluations, TRAININGS: of_trainings, JUDGEMENTS: of_judgements, RATINGS: of_ratings}


# --- figures ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class FigurePart(PaperPart):
    tables: list[str] = argument("our tables, NAME.csv each, of one figure", nargs="+")
    name: str = argument("name of the figure's files")


def figure(arguments: FigurePart) -> None:
    """One figure of tables, PNG and SVG; with --paper '' without the paper's numbers."""
    from hps.evidence.figures.ablations import ablation
    from hps.evidence.figures.frontier import frontier
    from hps.evidence.figures.margins import margins
    from hps.evidence.figures.training import training_time

    config = read_config(arguments.config)
    specs = [named(config, Path(path).stem) for path in arguments.tables]
    of_trainings, of_methods = specs[0].source == TRAININGS, specs[0].varies == "evaluated_on"
    kind = training_time if of_trainings else margins if of_methods else ablation
    drawn = (frontier if arguments.name == FRONTIER else kind)(specs, arguments.tables, arguments.paper)
    draw(arguments, arguments.name, drawn, config["world"])


@dataclass(kw_only=True)
class CurvesPart(Part):
    trainings: list[str] = argument("folders of training.json and log.jsonl", nargs="+")
    dataset: str = argument("the data set that they were trained on")


def curves(arguments: CurvesPart) -> None:
    """The course of the trainings on a data set, PNG and SVG."""
    from hps.evidence.figures.training import training_curves

    drawn = training_curves(arguments.trainings, arguments.dataset)
    world = needed(read_config(arguments.config), "figure")["world"]
    draw(arguments, f"training_curves_{arguments.dataset}", drawn, world)


# --- claims, audit, theory -------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class ClaimsPart(PaperPart):
    evaluations: list[str] = argument("folders of evaluation.json and per_prompt.parquet", [])
    trainings: list[str] = argument("folders of training.json", [])
    tables: list[str] = argument("further tables of ours, CSV, named as in the claims", [])


def claims(arguments: ClaimsPart) -> None:
    """The paper's claims (claims.yaml beside its numbers) on its own numbers and on ours: CSV, JSON, Markdown, HTML."""
    from hps.evidence.claims import page
    from hps.evidence.claims.evidence import CsvTables, OurResults, Settings
    from hps.evidence.claims.sentences import sentences
    from hps.evidence.claims.verdicts import Level, evaluate, judge, judge_as_printed
    from hps.evidence.claims.vocabulary import read_claims
    from hps.evidence.table_rows import Choices

    config, paper = needed(read_config(arguments.config), "claims"), Path(arguments.paper)
    found = read_claims(paper / "claims.yaml", paper / "claims.schema.yaml")
    # A reward model that was trained here scores in log-odds; the paper's does not.
    test = Level(config["claims.alpha"], config["models.eval_reward.source"] == "trained")
    choices = Choices(config["evaluation.margin_pair"], config["evaluation.bleu"])
    ours = OurResults.of(
        map(results.read_evaluation, arguments.evaluations),
        [results.read_training(folder) for folder in arguments.trainings],
        Settings(config, choices),
        CsvTables.read({Path(path).stem: path for path in arguments.tables}),
    )
    theirs = CsvTables.of_the_paper(paper)
    on_theirs = [judge_as_printed(evaluate(claim, theirs, test)) for claim in found]
    pairs = list(zip(on_theirs, judge([evaluate(claim, ours, test) for claim in found], test), strict=True))
    readable = page.to_page(pairs, test, config["world"])
    write(arguments, "claims", readable, page.to_csv(pairs))
    files.write_json(Path(arguments.out) / "claims.json", page.to_json(pairs, test, config["world"]))
    # For the report's first page, which says itself whether the world is a toy: the sentences, and the lists alone.
    said = sentences([own for _, own in pairs], ours, test, config["world"], config["models.policy"])
    alone = replace(readable, notes=[page.of_the_paper(pairs)], tables=page.lists(pairs))
    for name, part in (("sentences", render.Page("", (), said)), ("list", alone)):
        files.write_text(Path(arguments.out) / f"{name}.html", render.fragment(part))


@dataclass(kw_only=True)
class AuditPart(PaperPart):
    test_sets: list[str] = argument("data sets whose human pairs are measured", [])
    human: list[str] = argument("lengths of their human pairs, a file each", [])
    annotated_sets: list[str] = argument("those of them whose annotated pairs are measured too", [])
    candidates: list[str] = argument("candidates of the test prompts, all shards of a test set together", [])
    scored: list[str] = argument("their rewards, likewise", [])
    reference: list[str] = argument("their reference log-probs, likewise", [])


def audit(arguments: AuditPart) -> None:
    """The paper's numbers against each other, and the length gaps they imply against those of real test pairs."""
    from hps.evaluation.pairs import annotated_gaps, human_gaps
    from hps.evidence import audit as checks
    from hps.evidence import audit_page, paper, statistics
    from hps.evidence.figures.gaps import implied_gaps
    from hps.evidence.figures.style import DATASETS
    from hps.training.examples import usable_statuses

    config = needed(read_config(arguments.config), "audit")
    if len(arguments.human) != len(arguments.test_sets):
        raise InputError("--human", f"{len(arguments.human)} files for {len(arguments.test_sets)} test sets: one each")
    if missing := set(arguments.annotated_sets) - set(arguments.test_sets):
        raise InputError("--annotated-sets", f"{', '.join(sorted(missing))}: not in --test-sets")
    gaps = {name: {"human": human_gaps(path)} for name, path in zip(arguments.test_sets, arguments.human, strict=True)}
    for name, stages in zip(arguments.annotated_sets, by_test_set(arguments), strict=True):
        gaps[name]["annotated"] = annotated_gaps(*stages, usable_statuses(config["candidates.truncated"]))
    measured = {
        name: {pair: statistics.estimate(values) for pair, values in pairs.items()} for name, pairs in gaps.items()
    }
    rows, world = paper.read_rows(arguments.paper), config["world"]
    found = checks.check(arguments.paper, measured, world, DATASETS)
    write(arguments, "audit", audit_page.to_page(found, rows, measured, world, DATASETS), audit_page.to_csv(found))
    files.write_text(Path(arguments.out) / "length_gaps.csv", audit_page.gaps_to_csv(rows, measured))
    draw(arguments, "length_gaps", implied_gaps(rows, measured, world))


def by_test_set(arguments: AuditPart) -> list[list[list[str]]]:
    """Candidates, scored and reference of each of the annotated sets: as many files of each."""
    stages = (arguments.candidates, arguments.scored, arguments.reference)
    sets = len(arguments.annotated_sets)
    shards, rest = divmod(len(arguments.candidates), sets or 1)
    if rest or len({len(paths) for paths in stages}) > 1 or (arguments.candidates and not sets):
        counts = ", ".join(str(len(paths)) for paths in stages)
        raise InputError("--annotated-sets", f"{counts} files for {sets} test sets: not the same for each")
    return [[paths[number * shards : (number + 1) * shards] for paths in stages] for number in range(sets)]


def theory(arguments: Part) -> None:
    """The paper's three theorems on linear rewards with a known parameter, with a figure."""
    from hps.evidence.figures import theory as figures
    from hps.evidence.theory.experiments import Sizes, measure
    from hps.evidence.theory.page import to_csv, to_page

    sizes = Sizes(**needed(read_config(arguments.config), "theory")["theory"])
    for name in ("prompts", "responses"):
        values = getattr(sizes, name)
        if len(values) < 2 or any(b <= a for a, b in pairwise(values)):
            raise InputError(arguments.config, f"theory.{name}: {values} are not at least two rising numbers")
    points = measure(sizes)
    write(arguments, "theory", to_page(points, sizes), to_csv(points))
    draw(arguments, "theorems", figures.theory(points))


# --- answers ---------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class AnswersPart(Part):
    test_sets: list[str] = argument("data sets", nargs="+")
    pairs: list[str] = argument("their test prompts (Parquet), one file each", nargs="+")
    methods: list[str] = argument("methods whose answers are shown", nargs="+")
    evaluations: list[str] = argument("evaluations: for each test set, those of the methods in their order", nargs="+")


def answers(arguments: AnswersPart) -> None:
    """The methods' answers to the same prompts side by side, with scores and a filter, HTML."""
    from hps.evidence.answers import page
    from hps.judge.comparisons import side_by_side

    found = side_by_side(arguments.test_sets, arguments.pairs, arguments.methods, arguments.evaluations)
    sets = [
        page.TestSet(name, prompts, {own.name: {key: rows[0] for key, rows in own.samples.items()} for own in policies})
        for name, policies, prompts in found
    ]
    world = needed(read_config(arguments.config), "answers")["world"]
    files.write_text(Path(arguments.out) / "answers.html", page.to_html(sets, world))


# --- what a run was made of, what it cost, the document --------------------------------------------------------------


@dataclass(kw_only=True)
class OverviewPart(Part):
    counts: list[str] = argument("counts of the data stage, JSON in the data set's folder", [])
    candidates: list[str] = argument("statistics of generated responses, DATA_SET/SPLIT.SHARD.json each", [])
    models: list[str] = argument("facts of models, JSON in the role's folder", [])
    trainings: list[str] = argument("folders of training.json, or these files", [])


def overview(arguments: OverviewPart) -> None:
    """Pages on data, models, configuration and versions, HTML."""
    from hps.evidence import overview as pages

    facts = [pages.read_facts(paths) for paths in (arguments.counts, arguments.candidates, arguments.models)]
    trainings = [results.read_training(path.removesuffix("training.json") or ".") for path in arguments.trainings]
    world = read_config(arguments.config)["world"]
    for name, page in pages.pages(*facts, trainings, files.read_json(arguments.config)).items():
        noted = replace(page, notes=[*render.world_note(world), *page.notes])
        files.write_text(Path(arguments.out) / f"{name}.html", render.html(noted))


@dataclass(kw_only=True)
class CostPart(Part):
    benchmarks: str = argument("folder of the jobs' benchmark files, in it one of each stage")


def cost(arguments: CostPart) -> None:
    """The page on what a run cost, HTML, from the benchmark files of its jobs."""
    from hps.evidence import overview as pages

    stages = pages.benchmark_files(arguments.benchmarks)
    if not stages:
        raise InputError(arguments.benchmarks, "has no benchmark files (*.tsv)")
    page = pages.cost_page(stages, needed(read_config(arguments.config), "cost")["world"])
    files.write_text(Path(arguments.out) / "cost.html", render.html(page))


@dataclass(kw_only=True)
class DocumentPart:
    given: str = argument("config.yaml with the command line over it, as JSON")
    out: str = argument("the report (HTML)")


def document(arguments: DocumentPart) -> None:
    """The Snakemake report of finished parts.

    Snakemake writes a report about a finished workflow, so this asks a second one, which only reads, for the parts that
    its caller has just completed.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".json") as config, files.writing(arguments.out) as partial:
        json.dump(json.loads(arguments.given), config)
        config.flush()
        html = partial.with_suffix(".html")  # Snakemake goes by the ending
        words = ["report_contents", "--nolock", "--cores", "1", "--configfile", config.name, "--report", str(html)]
        words += ["--report-stylesheet", "report/style.css"]
        try:
            subprocess.run([sys.executable, "-m", "snakemake", *words], check=True, cwd=Path.cwd())
            html.rename(partial)
        finally:
            html.unlink(missing_ok=True)


PARTS = {
    "table": (table, TablePart),
    "figure": (figure, FigurePart),
    "curves": (curves, CurvesPart),
    "claims": (claims, ClaimsPart),
    "audit": (audit, AuditPart),
    "theory": (theory, Part),
    "answers": (answers, AnswersPart),
    "overview": (overview, OverviewPart),
    "cost": (cost, CostPart),
    "document": (document, DocumentPart),
}


def main(words: Sequence[str] = ()) -> None:
    """Run the part that the command line names."""
    cli.run_part(PARTS, list(words) or sys.argv[1:])


if __name__ == "__main__":
    main()
