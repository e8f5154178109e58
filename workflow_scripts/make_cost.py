"""Makes the report's page on what a run cost, from the benchmark files of its jobs.

By hand:

    python workflow_scripts/make_cost.py --benchmarks results/tiny/benchmarks --out cost.html
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from hps.evidence import overview, render
from hps.support import cli, files
from hps.support.errors import InputError


@dataclass
class Arguments:
    benchmarks: str = cli.argument("folder of the jobs' benchmark files, in it one of each stage")
    out: str = cli.argument("output (HTML)")
    world: str = cli.argument("`toy` says in the notes that the models are toys", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    root = Path(arguments.benchmarks)
    stages: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.tsv")):
        stages.setdefault(path.relative_to(root).parts[0], []).append(path)
    if not stages:
        raise InputError(root, "has no benchmark files (*.tsv)")
    files.write_text(arguments.out, render.html(overview.cost_page(stages, arguments.world)))
    logging.info("cost of %d stages", len(stages))


if __name__ == "__main__":
    cli.run(main, Arguments)
