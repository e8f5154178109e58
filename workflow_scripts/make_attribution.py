"""Makes Table A, HPS taken apart, from evaluations, as CSV (the effects), Markdown and HTML.

By hand, with the evaluations of dpo-bt, dpo-hps and the parts of HPS on one data set:

    python workflow_scripts/make_attribution.py --evaluations EVALUATION_FOLDER... --datasets hh_rlhf --reward dpo \
        --multiplicity n_minus_1 --csv attribution.csv --markdown attribution.md --html attribution.html
"""

import logging
from dataclasses import dataclass

from hps import attribution, cli, files, render
from hps.preference_models import MULTIPLICITIES, parts_of_hps
from hps.results import read_evaluation
from hps.tables import PAIRS, Choices


@dataclass
class Arguments:
    evaluations: list[str] = cli.argument("folders of evaluation.json and per_prompt.parquet", nargs="+")
    datasets: list[str] = cli.argument("data sets, in row order", nargs="+")
    reward: str = cli.argument("the reward parameterization")
    multiplicity: str = cli.argument("what `hps` was trained with", choices=list(map(str, MULTIPLICITIES.values())))
    csv: str = cli.argument("output: the effects")
    markdown: str = cli.argument("output: cells and effects")
    html: str = cli.argument("output: the same for a browser")
    margin_pair: str = cli.argument("pair of RM_DPO", "human", choices=list(PAIRS))
    bleu: str = cli.argument("BLEU over words or characters", "word", choices=["word", "char"])
    resamples: int = cli.argument("bootstrap resamples", 2000)
    seed: int = cli.argument("seed of the bootstrap", 0)
    world: str = cli.argument("`toy` says in the notes that the models are toys", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    multiplicity = int(arguments.multiplicity) if arguments.multiplicity == "1" else arguments.multiplicity
    choices = Choices(
        arguments.datasets,
        [arguments.reward],
        ["bt", *parts_of_hps(multiplicity).values()],
        arguments.margin_pair,
        arguments.bleu,
        arguments.resamples,
        arguments.seed,
    )
    rows = attribution.rows_of(map(read_evaluation, arguments.evaluations), choices)
    effects = attribution.contrasts(rows, choices, multiplicity)
    page = attribution.to_page(rows, effects, choices, multiplicity, arguments.world)
    files.write_text(arguments.csv, attribution.to_csv(effects))
    files.write_text(arguments.markdown, render.markdown(page))
    files.write_text(arguments.html, render.html(page))
    logging.info("%s: %d cells, %d effects", page.title, len(rows), len(effects))


if __name__ == "__main__":
    cli.run(main, Arguments)
