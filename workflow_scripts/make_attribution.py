"""Makes Table A, HPS taken apart, from evaluations, as CSV (the effects), Markdown and HTML.

By hand, with the evaluations of dpo-bt, dpo-hps and the parts of HPS on one data set:

    python workflow_scripts/make_attribution.py --evaluations EVALUATION_FOLDER... --datasets hh_rlhf --reward dpo \
        --multiplicity n_minus_1 --csv attribution.csv --markdown attribution.md --html attribution.html
"""

import logging
from dataclasses import dataclass

from hps.evidence import attribution, render
from hps.evidence.results import read_evaluation
from hps.evidence.table_arguments import TableArguments
from hps.runs import MULTIPLICITIES
from hps.support import cli, files


@dataclass(kw_only=True)
class Arguments(TableArguments):
    reward: str = cli.argument("the reward parameterization")
    multiplicity: str = cli.argument("what `hps` was trained with", choices=list(map(str, MULTIPLICITIES.values())))
    csv: str = cli.argument("output: the effects")
    markdown: str = cli.argument("output: cells and effects")
    html: str = cli.argument("output: the same for a browser")


def main(arguments: Arguments) -> None:
    multiplicity = int(arguments.multiplicity) if arguments.multiplicity == "1" else arguments.multiplicity
    choices = arguments.choices([arguments.reward], ["bt", "hps"])
    rows = attribution.rows_of(map(read_evaluation, arguments.evaluations), choices)
    effects = attribution.contrasts(rows, choices, multiplicity)
    page = attribution.to_page(rows, effects, choices, multiplicity, arguments.world)
    files.write_text(arguments.csv, attribution.to_csv(effects))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    logging.info("%s: %d cells, %d effects", page.title, len(rows), len(effects))


if __name__ == "__main__":
    cli.run(main, Arguments)
