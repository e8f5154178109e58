"""Evaluates the paper's claims on its own numbers and on ours, with verdicts, as CSV, Markdown, HTML and JSON.

By hand; the evaluations are those of any of the tables, trainings those of the grid, other tables named by their file:

    python workflow_scripts/make_claims.py --claims paper/claims.yaml --schema paper/claims.schema.yaml --paper paper \
        --evaluations EVALUATION_FOLDER... --trainings TRAINING_FOLDER... --tables table4.csv --grid-n 100 --beta 0.1 \
        --ablation-dataset hh_rlhf --csv claims.csv --json claims.json --markdown claims.md --html claims.html \
        --fragment claims_list.html
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from hps.evidence import render
from hps.evidence.claims import page
from hps.evidence.claims.evidence import CsvTables, OurResults, Settings
from hps.evidence.claims.verdicts import Level, evaluate, judge, judge_as_printed
from hps.evidence.claims.vocabulary import read_claims
from hps.evidence.results import read_evaluation, read_training
from hps.evidence.tables import PAIRS, Choices
from hps.support import cli, files


@dataclass
class Arguments:
    claims: str = cli.argument("the claims (YAML)")
    schema: str = cli.argument("what may stand there (JSON schema as YAML)")
    paper: str = cli.argument("folder of the paper's numbers")
    grid_n: int = cli.argument("responses a prompt in Tables 2, 5 and 8")
    beta: float = cli.argument("beta in Tables 2, 5, 6 and 7")
    ablation_dataset: str = cli.argument("data set that the policies of Tables 6, 7 and 8 are trained on")
    csv: str = cli.argument("output: a row a claim")
    json: str = cli.argument("output: everything")
    markdown: str = cli.argument("output: for readers")
    html: str = cli.argument("output: the same for a browser")
    fragment: str = cli.argument("output: the lists alone, for the report's first page")
    evaluations: list[str] = cli.argument("folders of evaluation.json and per_prompt.parquet", [])
    trainings: list[str] = cli.argument("folders of training.json", [])
    tables: list[str] = cli.argument("further tables of ours, CSV, named as in the claims", [])
    margin_pair: str = cli.argument("pair of RM_DPO and RM_R-DPO", "human", choices=list(PAIRS))
    bleu: str = cli.argument("BLEU over words or characters", "word", choices=["word", "char"])
    alpha: float = cli.argument("level of the corrected tests", 0.05)
    reward_scale: str = cli.argument("`log_odds`: its model was trained here", "paper", choices=["paper", "log_odds"])
    world: str = cli.argument("`toy` says that the models are toys", "real", choices=["real", "toy"])


def main(arguments: Arguments) -> None:
    claims = read_claims(arguments.claims, arguments.schema)
    test = Level(arguments.alpha, arguments.reward_scale == "log_odds")
    choices = Choices([], [], [], arguments.margin_pair, arguments.bleu)
    ours = OurResults.of(
        map(read_evaluation, arguments.evaluations),
        [read_training(folder) for folder in arguments.trainings],
        Settings(arguments.grid_n, arguments.beta, arguments.ablation_dataset, choices),
        CsvTables.read({Path(path).stem: path for path in arguments.tables}),
    )
    theirs = CsvTables.of_the_paper(arguments.paper)
    on_theirs = [judge_as_printed(evaluate(claim, theirs, test)) for claim in claims]
    on_ours = judge([evaluate(claim, ours, test) for claim in claims], test)
    pairs = list(zip(on_theirs, on_ours, strict=True))
    readable = page.to_page(pairs, test, arguments.world)
    files.write_text(arguments.csv, page.to_csv(pairs))
    files.write_json(arguments.json, page.to_json(pairs, test, arguments.world))
    files.write_text(arguments.markdown, render.markdown(readable))
    files.write_text(arguments.html, render.html(readable))
    # The page that it stands in says itself whether the world is a toy.
    alone = replace(readable, notes=[page.summary(pairs)], tables=page.lists(pairs))
    files.write_text(arguments.fragment, render.fragment(alone))
    logging.info("%s", page.summary(pairs))


if __name__ == "__main__":
    cli.run(main, Arguments)
