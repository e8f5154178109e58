"""Makes the training-time table from trainings and the benchmark files of their jobs, as CSV, Markdown and HTML.

By hand, benchmark files in the order of the trainings:

    python workflow_scripts/make_training_time.py --trainings TRAINING_FOLDER... --benchmarks BENCHMARK_FILE... \
        --paper paper/training_hours.csv --csv training_time.csv --markdown training_time.md --html training_time.html
"""

import logging
from dataclasses import dataclass

from hps.evidence import render
from hps.evidence.results import read_benchmark_seconds, read_training
from hps.evidence.training_time import measure, read_paper_hours, to_csv, to_page
from hps.support import cli, files
from hps.support.errors import InputError


@dataclass
class Arguments:
    trainings: list[str] = cli.argument("folders of training.json", nargs="+")
    benchmarks: list[str] = cli.argument("their jobs' Snakemake benchmark files, in the same order", nargs="+")
    paper: str = cli.argument("the paper's hours (paper/training_hours.csv)")
    csv: str = cli.argument("output: all numbers")
    markdown: str = cli.argument("output: ours beside the paper's")
    html: str = cli.argument("output: the same for a browser")
    world: str = cli.argument("`toy` says in the notes that the models are toys", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    if len(arguments.trainings) != len(arguments.benchmarks):
        raise InputError(
            "--benchmarks", f"{len(arguments.benchmarks)} files for {len(arguments.trainings)} trainings: one each"
        )
    trainings = [read_training(folder) for folder in arguments.trainings]
    paper = read_paper_hours(arguments.paper)
    times = measure(trainings, [read_benchmark_seconds(path) for path in arguments.benchmarks], list(paper))
    page = to_page(times, trainings, paper, arguments.world)
    files.write_text(arguments.csv, to_csv(times))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    logging.info("training time: %d losses, %d runs", len(times), len(trainings))


if __name__ == "__main__":
    cli.run(main, Arguments)
