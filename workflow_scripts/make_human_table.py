"""Makes Table 3 from the ratings that raters returned, as CSV, Markdown and HTML; without ratings, says so.

    python workflow_scripts/make_human_table.py --key key.json --ratings returned/ratings-*.json \\
        --paper paper/table3_human.csv --csv table3.csv --markdown table3.md --html table3.html
"""

import logging
from dataclasses import dataclass

from hps.evidence import render
from hps.support import cli, files
from hps.user_study.design import read_key
from hps.user_study.ratings import read_ratings
from hps.user_study.scores import score
from hps.user_study.table import to_csv, to_page


@dataclass
class Arguments:
    key: str = cli.argument("key.json of the study")
    paper: str = cli.argument("the paper's table (paper/table3_human.csv)")
    csv: str = cli.argument("output: all numbers")
    markdown: str = cli.argument("output: ours beside the paper's")
    html: str = cli.argument("output: the same for a browser")
    ratings: list[str] = cli.argument("returned files (JSON)", [])
    seed: int = cli.argument("seed of the bootstrap", 0)
    world: str = cli.argument("`toy` says in the notes that the models are toys", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    key = read_key(arguments.key)
    ratings = scores = None
    if arguments.ratings:
        ratings = read_ratings(arguments.ratings, key)
        scores = score(ratings, seed=arguments.seed)
    page = to_page(key, ratings, scores, arguments.paper, arguments.world)
    files.write_text(arguments.csv, to_csv(key, ratings, scores))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    logging.info("Table 3: %d raters", len(ratings.raters) if ratings else 0)


if __name__ == "__main__":
    cli.run(main, Arguments)
