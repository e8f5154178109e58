"""Lay out what `snakemake publish` sends to the hub: policies with a model card each, tables, report.

    python workflow_scripts/publication.py --repo me/hps --license cc-by-nc-4.0 --config results/paper/config.json \\
        --policy results/paper/models/policy --counts results/paper/data/*/counts.json \\
        --trainings results/paper/runs/*/* --tables results/paper/tables/table2.csv \\
        --report results/paper/report.html --out results/paper/publication

Nothing is sent. Files of the results are links, so the folder takes no room and can be looked through before.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from hps.evidence import cards
from hps.evidence.needs import read_config
from hps.evidence.results import read_csv, read_training
from hps.evidence.tables import EVALUATIONS, tables
from hps.support import cli
from hps.support.cli import argument
from hps.support.files import read_json, write_text, writing
from hps.support.provenance import ADAPTER, MODEL
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("publication")):
    config: str = argument("the resolved configuration, RESULTS/config.json")
    policy: str = argument("model folder of the policy before training")
    counts: list[str] = argument("of each data set, what was read: counts.json", nargs="+")
    trainings: list[str] = argument("folders of training.json and the trained policy", nargs="+")
    tables: list[str] = argument("our tables, NAME.csv each; those of other suffixes beside them go along", [])
    report: str = argument("the report")
    out: str = argument("folder to write")


def main(arguments: Arguments) -> None:
    config = read_config(arguments.config)
    known = tables(config["ablations.over"])
    shown = [(known[Path(path).stem], path) for path in arguments.tables]
    publication = cards.Publication(
        arguments.repo,
        arguments.license,
        config,
        read_json(Path(arguments.policy) / MODEL),
        arguments.policy,
        {facts["dataset"]: facts for facts in map(read_json, arguments.counts)},
        [
            (spec, read_csv(path, ("trained_on", "method", "run_settings")))
            for spec, path in shown
            if spec.source == EVALUATIONS and not spec.parts
        ],
    )
    trainings = [read_training(folder) for folder in arguments.trainings]
    with writing(arguments.out) as folder:
        for training in trainings:
            own = folder / "runs" / training.run.name
            policy = training.folder / "policy"
            link(sorted(policy.iterdir()), own)
            if not (policy / ADAPTER).is_file():  # a whole model needs its tokenizer to be loaded by its name
                link(beside_the_weights(Path(arguments.policy), policy), own)
            write_text(own / "README.md", cards.policy_card(publication, training))
        for _, path in shown:
            link(sorted(Path(path).parent.glob(f"{Path(path).stem}.*")), folder / "tables")
        link([Path(arguments.report)], folder)
        write_text(folder / "README.md", cards.repository_card(publication, trainings))
    logging.info("%s: %d policies for %s", arguments.out, len(trainings), arguments.repo)


def link(files: list[Path], folder: Path) -> None:
    """Links to files but hidden ones, relative, so that the results can be moved with them."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in (file for file in files if not file.name.startswith(".")):
        (folder / file.name).symlink_to(os.path.relpath(file, folder))


def beside_the_weights(base: Path, policy: Path) -> list[Path]:
    """The files of the base that a fully trained policy lacks: its tokenizer and template."""
    own = {file.name for file in policy.iterdir()} | {MODEL}
    weights = (".safetensors", ".index.json")
    return [file for file in sorted(base.iterdir()) if file.name not in own and not file.name.endswith(weights)]


if __name__ == "__main__":
    cli.run(main, Arguments)
