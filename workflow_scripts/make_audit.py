"""Checks the paper's numbers against each other, and the length gaps they imply against those of real test pairs.

By hand, from the paper's numbers alone:

    python workflow_scripts/make_audit.py --paper paper --csv audit.csv --gaps audit_gaps.csv --markdown audit.md \
        --html audit.html --png audit.png --svg audit.svg

For human pairs add --test-sets and, for each, --human: lengths as measure_lengths.py writes them. For annotated pairs
add --annotated-sets with --candidates, --scored and --reference: the stages' files of their test prompts, all shards of
one test set after those of the other.
"""

import logging
from dataclasses import dataclass

from hps.evaluation.pairs import annotated_gaps, human_gaps
from hps.evidence import audit, render
from hps.evidence.audit_page import gaps_to_csv, to_csv, to_page
from hps.evidence.figures import style
from hps.evidence.figures.gaps import implied_gaps
from hps.evidence.paper import read_rows
from hps.evidence.statistics import Estimate, estimate
from hps.support import cli, files
from hps.support.errors import InputError
from hps.training.examples import usable_statuses


@dataclass
class Arguments:
    csv: str = cli.argument("output: the checks")
    gaps: str = cli.argument("output: the length gaps, CSV")
    markdown: str = cli.argument("output: both")
    html: str = cli.argument("output: the same for a browser")
    png: str = cli.argument("output: figure of the length gaps")
    svg: str = cli.argument("output: the same")
    paper: str = cli.argument("folder of the paper's numbers", "paper")
    test_sets: list[str] = cli.argument("data sets whose human pairs are measured", [])
    human: list[str] = cli.argument("lengths of their human pairs, a file each", [])
    annotated_sets: list[str] = cli.argument("those of them whose annotated pairs are measured too", [])
    candidates: list[str] = cli.argument("candidates of the test prompts, test set by test set", [])
    scored: list[str] = cli.argument("their rewards, likewise", [])
    reference: list[str] = cli.argument("their reference log-probs, likewise", [])
    truncated: str = cli.argument("drop or keep: may a truncated response be in the annotated pair?", "drop")
    seed: int = cli.argument("seed of the bootstrap", 0)
    world: str = cli.argument("`toy`: the measured pairs are a toy world's", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    measured = measure(arguments)
    rows = read_rows(arguments.paper)
    checks = audit.check(arguments.paper, measured, arguments.world, style.DATASETS)
    page = to_page(checks, rows, measured, arguments.world, style.DATASETS)
    files.write_text(arguments.csv, to_csv(checks))
    files.write_text(arguments.gaps, gaps_to_csv(rows, measured))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    style.save(implied_gaps(rows, measured, arguments.world), arguments.png, arguments.svg)
    verdicts = [check.verdict for check in checks]
    logging.info("audit: %s", {verdict: verdicts.count(verdict) for verdict in audit.VERDICTS})


def measure(arguments: Arguments) -> dict[str, dict[str, Estimate]]:
    """Mean length gaps by test set and pair, with intervals over prompts. No test sets: nothing, check 7 stays open."""
    if len(arguments.human) != len(arguments.test_sets):
        raise InputError("--human", f"{len(arguments.human)} files for {len(arguments.test_sets)} test sets: one each")
    if missing := set(arguments.annotated_sets) - set(arguments.test_sets):
        raise InputError("--annotated-sets", f"{', '.join(sorted(missing))}: not in --test-sets")
    gaps = {name: {"human": human_gaps(path)} for name, path in zip(arguments.test_sets, arguments.human, strict=True)}
    for name, files_of_stages in zip(arguments.annotated_sets, annotated_files(arguments), strict=True):
        gaps[name]["annotated"] = annotated_gaps(*files_of_stages, usable_statuses(arguments.truncated))
    return {name: {pair: estimate(values) for pair, values in pairs.items()} for name, pairs in gaps.items()}


def annotated_files(arguments: Arguments) -> list[list[list[str]]]:
    """Candidates, scored and reference of each of the annotated sets: as many files of each."""
    stages = (arguments.candidates, arguments.scored, arguments.reference)
    sets = len(arguments.annotated_sets)
    shards, rest = divmod(len(arguments.candidates), sets or 1)
    if rest or len({len(paths) for paths in stages}) > 1 or (arguments.candidates and not sets):
        counts = ", ".join(str(len(paths)) for paths in stages)
        raise InputError("--annotated-sets", f"{counts} files for {sets} test sets: not the same for each")
    return [[paths[number * shards : (number + 1) * shards] for paths in stages] for number in range(sets)]


if __name__ == "__main__":
    cli.run(main, Arguments)
