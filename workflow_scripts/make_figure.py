"""Makes one figure of the results, as PNG and SVG.

By hand; the tables are those made by make_table.py and make_training_time.py, `--paper` the paper's, in the same order:

    python workflow_scripts/make_figure.py --figure margins --tables table2.csv table5.csv \
        --paper paper/table2_finetuning.csv paper/table5_transfer.csv --png margins.png --svg margins.svg
    python workflow_scripts/make_figure.py --figure training_curves --trainings TRAINING_FOLDER... --dataset hh_rlhf \
        --png curves.png --svg curves.svg
"""

import logging
from dataclasses import dataclass

from hps.evidence.figures import style
from hps.evidence.figures.ablations import ablation_beta, ablation_n
from hps.evidence.figures.margins import margins
from hps.evidence.figures.training import training_curves, training_time
from hps.support import cli
from hps.support.errors import InputError

FROM_TABLES = {
    "margins": margins,  # table2 and table5, or one of them
    "ablation_n": ablation_n,  # table6 and table7, or one of them
    "ablation_beta": ablation_beta,  # table8
    "training_time": training_time,  # training_time
}


@dataclass
class Arguments:
    figure: str = cli.argument("which figure", choices=[*FROM_TABLES, "training_curves"])
    png: str = cli.argument("output")
    svg: str = cli.argument("output")
    tables: list[str] = cli.argument("our tables, CSV", [])
    paper: list[str] = cli.argument("the paper's file for each of --tables; without, only ours is drawn", [])
    trainings: list[str] = cli.argument("folders of training.json and log.jsonl, for training_curves", [])
    dataset: str = cli.argument("the data set of training_curves", "")
    world: str = cli.argument("`toy` says in the figure that the models are toys", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    if arguments.figure == "training_curves":
        if not arguments.trainings or not arguments.dataset:
            raise InputError("--figure training_curves", "needs --trainings and --dataset")
        figure = training_curves(arguments.trainings, arguments.dataset)
    else:
        if not arguments.tables:
            raise InputError(f"--figure {arguments.figure}", "needs --tables")
        if arguments.paper and len(arguments.paper) != len(arguments.tables):
            raise InputError("--paper", f"{len(arguments.paper)} files for {len(arguments.tables)} tables: one each")
        figure = FROM_TABLES[arguments.figure](arguments.tables, arguments.paper)
    style.save(figure, arguments.png, arguments.svg, arguments.world)
    logging.info("figure %s written", arguments.figure)


if __name__ == "__main__":
    cli.run(main, Arguments)
