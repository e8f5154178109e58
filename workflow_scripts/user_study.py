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
from pathlib import Path

from hps.judge.comparisons import Policy, read_policy, read_prompts
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
    methods, test_sets = arguments.methods, arguments.test_sets
    if len(methods) > len(LETTERS):
        raise InputError("--methods", f"{len(methods)}, and there are {len(LETTERS)} letters")
    for name, values, needed in (
        ("--pairs", arguments.pairs, len(test_sets)),
        ("--evaluations", arguments.evaluations, len(test_sets) * len(methods)),
    ):
        if len(values) != needed:
            raise InputError(name, f"{len(values)} where {needed} are needed")
    items = []
    for number, test_set in enumerate(test_sets):
        folders = arguments.evaluations[number * len(methods) : (number + 1) * len(methods)]
        policies = [read_policy(folder, samples=1) for folder in folders]
        check(policies, folders, methods, test_set)
        prompts = read_prompts(arguments.pairs[number])
        for prompt_id in choose(list(policies[0].samples), arguments.prompts, arguments.seed, test_set):
            if prompt_id not in prompts:
                raise InputError(arguments.pairs[number], f"has no prompt {prompt_id}, which was evaluated")
            answers = {policy.name: policy.samples[prompt_id][0]["response"] for policy in policies}
            items.append(StudyItem(test_set, prompt_id, prompts[prompt_id], answers))
    return items


def check(policies: list[Policy], folders: list[str], methods: list[str], test_set: str) -> None:
    for policy, folder, method in zip(policies, folders, methods, strict=True):
        if (policy.name, policy.test_set) != (method, test_set):
            raise InputError(folder, f"is {policy.name} on {policy.test_set}, not {method} on {test_set}")
        if policy.samples.keys() != policies[0].samples.keys():
            raise InputError(folder, f"was evaluated on other prompts than {Path(folders[0])}")


if __name__ == "__main__":
    cli.run(main, Arguments)
