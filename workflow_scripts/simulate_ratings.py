"""Simulated raters for the toy world's study: its true reward with noise, in the files that people would return.

    python workflow_scripts/simulate_ratings.py --key results/tiny/user_study/key.json \\
        --evaluations EVALUATION_FOLDER... --seed 0 --out results/tiny/simulated_ratings

Each file says that it is simulated, and Table 3 repeats it.
"""

import logging
from dataclasses import dataclass

from hps.judge.comparisons import read_policy
from hps.support import cli
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import write_json, writing
from hps.user_study.design import read_key
from hps.user_study.ratings import simulate


@dataclass(kw_only=True)
class Arguments:
    key: str = argument("key.json of the study")
    evaluations: list[str] = argument("evaluations of all its methods on all its test sets", nargs="+")
    seed: int = argument("of the noise", 0)
    out: str = argument("folder")


def main(arguments: Arguments) -> None:
    key = read_key(arguments.key)
    true_rewards = {}
    for folder in arguments.evaluations:
        policy = read_policy(folder, samples=1)
        for prompt_id, (first, *_) in policy.samples.items():
            if first["true_reward"] is None:
                raise InputError(folder, f"prompt {prompt_id} has no true reward to simulate a rater with")
            true_rewards[policy.test_set, prompt_id, policy.name] = first["true_reward"]
    with writing(arguments.out) as folder:
        for rater, content in simulate(key, true_rewards, arguments.seed).items():
            write_json(folder / f"ratings-{key.study}-{rater}.json", content)
    logging.info("study %s: %d simulated raters", key.study, len(key.raters))


if __name__ == "__main__":
    cli.run(main, Arguments)
