"""The runs that a configuration asks for, table by table."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from hps.runs import Run, as_settings, parts_of_hps, training_seeds
from hps.workflow.config import Config


def grid_runs(config: Config) -> list[Run]:
    """Tables 2 and 5: every parameterization with every loss on every data set, at the largest n."""
    grid, beta = config["grid"], float(config["objective"]["beta"])
    return [
        Run(dataset, parameterization, loss, grid["n"], beta, seed)
        for dataset, parameterization, loss in itertools.product(grid["datasets"], grid["rewards"], grid["losses"])
        for seed in training_seeds(config, f"{parameterization}-{loss}")
    ]


def n_runs(config: Config) -> list[Run]:
    """Tables 6 and 7: the ablation over the number of responses."""
    return _varied(config, "grid.n", config["ablations"]["n"])


def beta_runs(config: Config) -> list[Run]:
    """Table 8: the ablation over beta."""
    return _varied(config, "objective.beta", config["ablations"]["beta"])


def ablation_runs(config: Config) -> dict[str, tuple[str, list[Run]]]:
    """The ablations of `ablations.over`: by name, the key that each varies, and its runs in the order of its values."""
    return {
        name: (given["key"], _varied(config, given["key"], given["values"], given.get("methods"), given.get("dataset")))
        for name, given in config["ablations"]["over"].items()
    }


def attribution_runs(config: Config) -> list[Run]:
    """Table A: HPS taken apart, and BT beside it. The part that is HPS as configured is a run as the grid has it."""
    attribution = config["attribution"]
    methods = [("bt", ()), *(("hps", part) for part in parts_of_hps(config["objective"]["multiplicity"]).values())]
    return [
        replace(run, parameterization=attribution["reward"], loss=loss, settings=settings)
        for dataset in attribution["datasets"]
        for loss, settings in methods
        for run in _plain(config, dataset, "attribution")
    ]


def all_runs(config: Config) -> list[Run]:
    """Every training, each once."""
    varied = [runs for _, runs in ablation_runs(config).values()]
    tables = (grid_runs(config), n_runs(config), beta_runs(config), attribution_runs(config), *varied)
    return list(dict.fromkeys(itertools.chain(*tables)))


def judged_runs(config: Config) -> list[tuple[Run, Run | None]]:
    """Table 4: the judged method with each of its baselines (None: the SFT policy), as far as the grid has them."""
    grid, pairs = grid_runs(config), []
    for run in grid:
        if run.method == config["judge"]["method"]:
            for baseline in config["judge"]["baselines"]:
                parameterization, _, loss = baseline.partition("-")
                other = None if baseline == "sft" else replace(run, parameterization=parameterization, loss=loss)
                pairs += [(run, other)] if other is None or other in grid else []
    return pairs


def study_runs(config: Config) -> list[tuple[str, Run | None]]:
    """Table 3: test sets with the policies that are rated on each (None: the SFT policy), as far as the grid has them.

    Each on the data set it was trained on. All are of one training seed, with which their samples are drawn too.
    """
    return _of_shared_seed(config, config["user_study"]["methods"])


def answer_runs(config: Config) -> list[tuple[str, Run | None]]:
    """The page of answers: likewise, SFT and every loss with DPO, or else with the grid's first parameterization."""
    grid = config["grid"]
    parameterization = "dpo" if "dpo" in grid["rewards"] else grid["rewards"][0]
    return _of_shared_seed(config, ["sft", *(f"{parameterization}-{loss}" for loss in grid["losses"])])


def _of_shared_seed(config: Config, methods: Iterable[str]) -> list[tuple[str, Run | None]]:
    seed = shared_seed(config)
    shown = {(run.dataset, run.method): run for run in grid_runs(config) if run.seed == seed}
    return [
        (dataset, shown.get((dataset, method)))
        for dataset in config["grid"]["datasets"]
        for method in methods
        if method == "sft" or (dataset, method) in shown
    ]


def shared_seed(config: Config) -> int:
    """The first training seed that all runs have in common."""
    return next(seed for seed in config["seeds"] if all(seed in own for own in config["seeds_of"].values()))


def _varied(
    config: Config,
    key: str,
    values: Iterable[Any],
    methods: Sequence[str] | None = None,
    dataset: str | None = None,
) -> list[Run]:
    """Runs that differ in one key. That of the configured value is a run without settings, as the grid has it."""
    ablations, runs = config["ablations"], []
    for run, value, method in itertools.product(
        _plain(config, dataset or ablations["dataset"], "ablations"), values, methods or ablations["methods"]
    ):
        parameterization, loss = method.split("-")
        run = replace(run, parameterization=parameterization, loss=loss)
        if key == "grid.n":
            run = replace(run, n=value)
        elif key == "objective.beta":
            run = replace(run, beta=float(value))
        elif value != config.at(key):
            run = replace(run, settings=as_settings({key: value}))
        runs.append(run)
    return runs


def _plain(config: Config, dataset: str, what: str) -> list[Run]:
    """A run on the data set for each seed of `what`, at the configured n and beta; the caller says its method."""
    n, beta = config["grid"]["n"], float(config["objective"]["beta"])
    return [Run(dataset, "", "", n, beta, seed) for seed in training_seeds(config, what)]
