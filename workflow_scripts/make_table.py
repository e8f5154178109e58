"""Makes one of the paper's tables from evaluations, as CSV, Markdown and HTML.

By hand, for the methods of two rewards on one data set:

    python workflow_scripts/make_table.py --table table2 --evaluations EVALUATION_FOLDER... \
        --paper paper/table2_finetuning.csv --datasets hh_rlhf --rewards dpo exo --losses pl bt hps \
        --margin-pair human --csv table2.csv --markdown table2.md --html table2.html
"""

import logging
from dataclasses import dataclass

from hps.evidence import render
from hps.evidence.results import read_evaluation
from hps.evidence.table_arguments import TableArguments
from hps.evidence.table_page import to_page
from hps.evidence.tables import LAYOUTS, build, to_csv
from hps.support import cli, files


@dataclass(kw_only=True)
class Arguments(TableArguments):
    table: str = cli.argument("which table", choices=list(LAYOUTS))
    paper: str = cli.argument("the paper's table (paper/*.csv)")
    rewards: list[str] = cli.argument("rewards, in row order", nargs="+")
    losses: list[str] = cli.argument("losses, in row order", nargs="+")
    csv: str = cli.argument("output: all numbers")
    markdown: str = cli.argument("output: ours beside the paper's")
    html: str = cli.argument("output: the same for a browser")


def main(arguments: Arguments) -> None:
    layout = LAYOUTS[arguments.table]
    choices = arguments.choices(arguments.rewards, arguments.losses)
    rows = build(layout, map(read_evaluation, arguments.evaluations), choices)
    page = to_page(layout, rows, choices, arguments.paper, arguments.world)
    files.write_text(arguments.csv, to_csv(layout, rows, choices))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    logging.info("%s: %d rows from %d evaluations", layout.title, len(rows), len(arguments.evaluations))


if __name__ == "__main__":
    cli.run(main, Arguments)
