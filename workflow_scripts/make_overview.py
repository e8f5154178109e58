"""Makes the report's pages on data, models, configuration and versions.

By hand:

    python workflow_scripts/make_overview.py --config CONFIG.json --counts DATA_SET/counts.json \
        --candidates DATA_SET/train.1-of-2.json DATA_SET/train.2-of-2.json --models policy/model.json \
        --trainings TRAINING_FOLDER... --out-data data.html --out-models models.html \
        --out-configuration configuration.html --out-versions versions.html
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from hps.evidence import overview, render
from hps.evidence.results import read_training
from hps.support import cli, files
from hps.support.errors import InputError


@dataclass
class Arguments:
    config: str = cli.argument("the resolved configuration: JSON with values and origins")
    out_data: str = cli.argument("output: counts of data, responses and trained prompts")
    out_models: str = cli.argument("output: the models")
    out_configuration: str = cli.argument("output: the configuration")
    out_versions: str = cli.argument("output: versions and how the results were made")
    counts: list[str] = cli.argument("counts of the data stage, JSON in the data set's folder", [])
    candidates: list[str] = cli.argument("statistics of generated responses, DATA_SET/SPLIT.SHARD.json each", [])
    models: list[str] = cli.argument("facts of models, JSON in the role's folder", [])
    trainings: list[str] = cli.argument("folders of training.json, or these files", [])
    results: list[str] = cli.argument("further JSON files that record their provenance", [])


def main(arguments: Arguments) -> None:
    counts, candidates, models = map(read_all, (arguments.counts, arguments.candidates, arguments.models))
    trainings = [read_training(path.removesuffix("training.json") or ".") for path in arguments.trainings]
    files_read = [*counts.values(), *candidates.values(), *models.values(), *read_all(arguments.results).values()]
    provenances = [facts.pop("provenance") for facts in files_read if "provenance" in facts]
    provenances += [training.provenance for training in trainings]
    by_shard = [(f"{path.parent.name}, {path.name.split('.')[0]}", facts) for path, facts in candidates.items()]
    pages = {
        arguments.out_data: overview.data_page(_by_folder(counts), overview.add_up(by_shard), trainings),
        arguments.out_models: overview.models_page(_by_folder(models)),
        arguments.out_configuration: overview.configuration_page(read_object(arguments.config), arguments.config),
        arguments.out_versions: overview.versions_page(provenances),
    }
    note = render.world_note(read_object(arguments.config)["values"].get("world", ""))
    for path, page in pages.items():
        files.write_text(path, render.html(replace(page, notes=[*note, *page.notes])))
    logging.info("pages on data, models, configuration and %d results", len(provenances))


def read_all(paths: list[str]) -> dict[Path, dict]:
    return {Path(path): read_object(path) for path in paths}


def _by_folder(facts: dict[Path, dict]) -> dict[str, dict]:
    """Facts by the name of their folder. Raises InputError when two have the same."""
    named: dict[str, dict] = {}
    for path, own in facts.items():
        if path.parent.name in named:
            raise InputError(path, f"a second file of {path.parent.name}")
        named[path.parent.name] = own
    return named


def read_object(path: str) -> dict:
    """A JSON object. Raises InputError naming the file when it is missing or something else."""
    if not Path(path).is_file():
        raise InputError(path, "missing")
    value = files.read_json(path)
    if not isinstance(value, dict):
        raise InputError(path, "not a JSON object")
    return value


if __name__ == "__main__":
    cli.run(main, Arguments)
