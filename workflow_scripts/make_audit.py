"""Checks the paper's numbers against each other, and the length gaps they imply against those of real test pairs.

By hand, from the paper's numbers alone:

    python workflow_scripts/make_audit.py --paper paper --csv audit.csv --gaps audit_gaps.csv --markdown audit.md \
        --html audit.html --png audit.png --svg audit.svg

For the measured pairs add --test-sets with --candidates, --scored and --reference: the stages' files of their test
prompts, all shards of one test set after those of the other.
"""

import logging
from dataclasses import dataclass

from hps import audit, cli, files, render
from hps.audit_page import gaps_to_csv, to_csv, to_page
from hps.errors import InputError
from hps.figures import style
from hps.figures.gaps import implied_gaps
from hps.pairs import length_gaps
from hps.paper import read_rows
from hps.preferences import usable_statuses
from hps.statistics import Estimate, mean_interval


@dataclass
class Arguments:
    csv: str = cli.argument("output: the checks")
    gaps: str = cli.argument("output: the length gaps, CSV")
    markdown: str = cli.argument("output: both")
    html: str = cli.argument("output: the same for a browser")
    png: str = cli.argument("output: figure of the length gaps")
    svg: str = cli.argument("output: the same")
    paper: str = cli.argument("folder of the paper's numbers", "paper")
    test_sets: list[str] = cli.argument("data sets whose test pairs are measured", [])
    candidates: list[str] = cli.argument("candidates of the test prompts, test set by test set", [])
    scored: list[str] = cli.argument("their rewards, likewise", [])
    reference: list[str] = cli.argument("their reference log-probs, likewise", [])
    truncated: str = cli.argument("drop or keep: may a truncated response be in the annotated pair?", "drop")
    resamples: int = cli.argument("bootstrap resamples", 2000)
    seed: int = cli.argument("seed of the bootstrap", 0)
    world: str = cli.argument("`toy`: the measured pairs are a toy world's", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    measured = {
        test_set: measure(number, arguments) for number, test_set in enumerate(arguments.test_sets)
    }  # no test sets: nothing is measured, and check 7 stays open
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


def measure(number: int, arguments: Arguments) -> dict[str, Estimate]:
    """Mean length gaps of one test set's pairs, with intervals over prompts."""
    shards, rest = divmod(len(arguments.candidates), len(arguments.test_sets))
    given = (arguments.candidates, arguments.scored, arguments.reference)
    if rest or len({len(paths) for paths in given}) > 1:
        counts = ", ".join(str(len(paths)) for paths in given)
        raise InputError(
            "--test-sets", f"{counts} files for {len(arguments.test_sets)} test sets: not the same for each"
        )
    own = [paths[number * shards : (number + 1) * shards] for paths in given]
    gaps = length_gaps(*own, usable_statuses(arguments.truncated))
    return {
        pair: mean_interval(values, resamples=arguments.resamples, seed=arguments.seed) for pair, values in gaps.items()
    }


if __name__ == "__main__":
    cli.run(main, Arguments)
