"""Makes the pages of the human study (Table 3): one self-contained HTML file a rater, and the key that unblinds them.

    python workflow_scripts/user_study.py --test-sets hh_rlhf pku_saferlhf \\
        --pairs data/hh_rlhf/test.parquet data/pku_saferlhf/test.parquet --methods sft dpo-hps \\
        --evaluations sft/hh_rlhf hps/hh_rlhf sft/pku_saferlhf hps/pku_saferlhf \\
        --prompts 15 --raters 20 --seed 0 --out results/paper/user_study

--evaluations: for each test set the methods in their order. DIR gets pages/rater-NN.html and key.json. Hand out the
pages only: whoever has the key is not blind.
"""

import logging
from dataclasses import asdict, dataclass

from hps.judge.comparisons import side_by_side
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import write_json, write_text, writing
from hps.support.settings import taken_by
from hps.user_study.design import LETTERS, StudyItem, choose, design
from hps.user_study.page import render


@dataclass(kw_only=True)
class Arguments(taken_by("user_study")):
    test_sets: list[str] = argument("data sets", nargs="+")
    pairs: list[str] = argument("their test prompts (Parquet), one file each", nargs="+")
    methods: list[str] = argument("methods that are rated", nargs="+")
    evaluations: list[str] = argument("evaluations: for each test set, those of the methods in their order", nargs="+")
    seed: int = argument("decides prompts and orders", 0)
    out: str = argument("folder")


def main(arguments: Arguments) -> None:
    items = read_items(arguments)
    key, pages = design(items, arguments.methods, arguments.raters, arguments.seed)
    with writing(arguments.out) as folder:
        for rater, shown in pages.items():
            write_text(folder / "pages" / f"{rater}.html", render(shown))
        inputs = [*arguments.pairs, *(f"{path}/samples.parquet" for path in arguments.evaluations)]
        made = {"provenance": provenance.collect(asdict(arguments), inputs)}
        write_json(folder / "key.json", key.as_json() | made)
    logging.info("study %s: %d items, %d raters", key.study, len(items), arguments.raters)


def read_items(arguments: Arguments) -> list[StudyItem]:
    """The first sample of each method's answer to each chosen prompt."""
    methods = arguments.methods
    if len(methods) > len(LETTERS):
        raise InputError("--methods", f"{len(methods)}, and there are {len(LETTERS)} letters")
    items = []
    found = side_by_side(arguments.test_sets, arguments.pairs, methods, arguments.evaluations)
    for test_set, policies, prompts in found:
        for prompt_id in choose(list(policies[0].samples), arguments.prompts, arguments.seed, test_set):
            answers = {policy.name: policy.samples[prompt_id][0]["response"] for policy in policies}
            items.append(StudyItem(test_set, prompt_id, prompts[prompt_id], answers))
    return items


if __name__ == "__main__":
    cli.run(main, Arguments)
