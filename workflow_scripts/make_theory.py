"""Measures the paper's three theorems on linear rewards with a known parameter: CSV, Markdown, HTML and a figure.

By hand:

    python workflow_scripts/make_theory.py --dimension 5 --prompts 125 250 500 1000 2000 --responses 2 4 8 16 32 \
        --repetitions 20 --csv theory.csv --markdown theory.md --html theory.html --png theory.png --svg theory.svg
"""

import logging
from dataclasses import dataclass
from itertools import pairwise

from hps.evidence import render
from hps.evidence.figures import style
from hps.evidence.figures.theory import theory
from hps.evidence.theory.experiments import Sizes, measure
from hps.evidence.theory.page import to_csv, to_page
from hps.support import cli, files
from hps.support.errors import InputError


@dataclass
class Arguments:
    dimension: int = cli.argument("of the features and of theta")
    prompts: list[int] = cli.argument("prompts m of Theorem 1, rising", nargs="+")
    responses: list[int] = cli.argument("responses n of Theorem 1, rising", nargs="+")
    repetitions: int = cli.argument("data sets of Theorems 1 and 3")
    csv: str = cli.argument("output: every point")
    markdown: str = cli.argument("output: the summary")
    html: str = cli.argument("output: the same for a browser")
    png: str = cli.argument("output: figure")
    svg: str = cli.argument("output: the same")
    seed: int = cli.argument("of the data sets", 0)


def main(arguments: Arguments) -> None:
    for name in ("prompts", "responses"):
        values = getattr(arguments, name)
        if len(values) < 2 or any(b <= a for a, b in pairwise(values)):
            raise InputError(f"--{name}", f"{values} are not at least two rising numbers")
    sizes = Sizes(arguments.dimension, arguments.prompts, arguments.responses, arguments.repetitions, arguments.seed)
    points = measure(sizes)
    page = to_page(points, sizes)
    files.write_text(arguments.csv, to_csv(points))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    style.save(theory(points), arguments.png, arguments.svg)
    logging.info("theory: %d points", len(points))


if __name__ == "__main__":
    cli.run(main, Arguments)
