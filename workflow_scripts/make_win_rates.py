"""Makes Table 4 from judgements, as CSV, Markdown and HTML.

    python workflow_scripts/make_win_rates.py --judge results/tiny/judge --paper paper/table4_win_rate.csv \\
        --csv table4.csv --markdown table4.md --html table4.html
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from hps.evidence import render
from hps.judge.comparisons import JUDGEMENTS
from hps.judge.table import to_csv, to_page
from hps.judge.verdicts import win_rates
from hps.support import cli, files


@dataclass
class Arguments:
    judge: str = cli.argument("folder of judgements.parquet and judge.json")
    paper: str = cli.argument("the paper's table (paper/table4_win_rate.csv)")
    csv: str = cli.argument("output: all numbers")
    markdown: str = cli.argument("output: ours beside the paper's")
    html: str = cli.argument("output: the same for a browser")
    world: str = cli.argument("`toy` says in the notes that the models are toys", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    facts = files.read_json(Path(arguments.judge) / "judge.json")
    judgements = files.read_table(Path(arguments.judge) / "judgements.parquet", JUDGEMENTS.names)
    rates = win_rates(judgements)
    page = to_page(rates, arguments.paper, facts, arguments.world)
    files.write_text(arguments.csv, to_csv(rates, facts["model"]))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    logging.info("Table 4: %d comparisons from %d judgements", len(rates), len(judgements))


if __name__ == "__main__":
    cli.run(main, Arguments)
