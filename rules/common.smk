# Names that all rules share: the resolved configuration, the folders, and the runs. No rule stands here.
import copy
import json
import shlex
import sys
from collections import namedtuple
from pathlib import Path

import pandas as pd
from snakemake.exceptions import WorkflowError
from snakemake.utils import Paramspace

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from hps import config as hps_config
from hps.config import MODEL_KEYS, options
from hps.errors import InputError

GIVEN = copy.deepcopy(config)  # config.yaml with the command line over it
try:
    CONFIG = hps_config.load(ROOT, GIVEN)
except InputError as error:
    raise WorkflowError(str(error)) from None

# Snakemake's own copy (captions, report) shows the resolved values too.
config.update(CONFIG.values)

# The paper's own protocol is the default and needs no name.
RESULTS = f"results/{CONFIG['preset']}" + ("" if CONFIG["protocol"] == "paper" else f"-{CONFIG['protocol']}")
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
DATASETS = CONFIG["grid"]["datasets"]
TOY = CONFIG["world"] == "toy"
TOY_FLAG = "--toy" if TOY else ""
COMPUTE = CONFIG["compute"]
# Full fine-tuning trains float32 weights, so its reference and its evaluation are float32 too.
POLICY_DTYPE = "float32" if CONFIG["training"]["adapter"] == "full" else COMPUTE["dtype"]

# One row a training; ablations are part of the same space, so no run is trained twice.
RUNS = hps_config.all_runs(CONFIG)
run_space = Paramspace(
    pd.DataFrame(map(hps_config.as_dict, RUNS)),
    filename_params=["reward", "loss", "n", "beta", "seed"],
    single_wildcard="run",
)
RUN_NAMES = dict(zip(RUNS, run_space.instance_patterns))


scattergather:
    shard=COMPUTE["shards"],


wildcard_constraints:
    dataset="|".join(DATASETS),
    split="train|test",
    run=r"dataset~[^/]+/reward~[^/]+",
    policy=r"sft|dataset~[^/]+/reward~[^/]+",
    table=r"table\d",


def model(role):
    """Folder of a role's model, wherever it comes from."""
    return f"{RESULTS}/models/{role}"


def shards(name, dataset, split):
    """All shards of a stage's file for one split of one data set."""
    return gather.shard(f"{RESULTS}/{name}/{dataset}/{split}.{{scatteritem}}.parquet")


# --- data ------------------------------------------------------------------------------------------------------------


TOY_FILES = f"{RESULTS}/data/raw"
DATA_DIR = TOY_FILES if TOY else hps_config.data_dir(CONFIG)


def data_files(dataset, part):
    """Paths of a data set's files for `train` or `test`; none when it comes from the hub."""
    files = CONFIG["data"][dataset]["files"][part] if DATA_DIR else []
    return [f"{DATA_DIR}/{file}" for file in files]


def data_source(wildcards):
    """Command-line options that say where a data set comes from."""
    source = CONFIG["data"][wildcards.dataset]
    given = {"format": source["format"], "label": source.get("label")}
    if DATA_DIR:
        for part in ("train", "test"):
            if data_files(wildcards.dataset, part):
                given[f"{part}_files"] = data_files(wildcards.dataset, part)
    else:
        given |= {key: source.get(key) for key in ("hub", "hub_data_dirs", "hub_revision")}
    return options(given)


def data_splits():
    """Command-line options for the size and source of each split."""
    sizes = {}
    for split, wanted in CONFIG["data"]["splits"].items():
        sizes |= {split: wanted["prompts"], f"{split}_from": wanted["from"]}
    return options(sizes)


# --- models ----------------------------------------------------------------------------------------------------------


ROLES = {role: source for role, source in CONFIG["models"].items() if role != "tokenizer"}


def roles_from(*sources):
    """A wildcard constraint: the roles whose model comes from one of these sources (none: matches nothing)."""
    return "|".join(role for role, given in ROLES.items() if given["source"] in sources) or "(?!)"


def model_options(*leave_out):
    """The role's entry of config key `models` as command-line options."""

    def chosen(wildcards):
        given = ROLES[wildcards.role]
        return options({key: given[key] for key in ("source", *MODEL_KEYS[given["source"]])}, leave_out=leave_out)

    return chosen


# --- evaluation ------------------------------------------------------------------------------------------------------


def trained(wildcards):
    """The policy under evaluation; `sft` is the policy before training and has none."""
    if wildcards.policy == "sft":
        return {}
    run = f"{RESULTS}/runs/{wildcards.policy}"
    return {"trained": f"{run}/policy", "training": f"{run}/training.json"}


def transfer_sets(run):
    """Where a run is evaluated in transfer: the other data set, if a table of transfer shows the run."""
    shown = CONFIG["evaluation"]["transfer"] and run in {*hps_config.grid_runs(CONFIG), *hps_config.n_runs(CONFIG)}
    return [other for other in DATASETS if shown and other != run.dataset]


def test_sets(policy):
    """All data sets that a policy is evaluated on, in one job; the SFT policy is on all."""
    return next(([run.dataset, *transfer_sets(run)] for run, name in RUN_NAMES.items() if name == policy), DATASETS)


def test_shards(name, policy):
    """All shards of a stage's file for the test prompts, test set by test set."""
    return [file for test_set in test_sets(policy) for file in shards(name, test_set, "test")]


def evaluation_seed(wildcards):
    """A run is sampled with its own seed, which all methods share; the SFT policy with the first."""
    seeds = [run.seed for run, name in RUN_NAMES.items() if name == wildcards.policy]
    return (seeds or CONFIG["seeds"])[0]


# --- tables ----------------------------------------------------------------------------------------------------------


TableInput = namedtuple("TableInput", "paper runs transfer sft")

# What each table shows: the paper's file, the runs, whether on the other data set, whether beside the SFT policy.
TABLES = {
    "table2": TableInput("paper/table2_finetuning.csv", hps_config.grid_runs(CONFIG), False, True),
    "table5": TableInput("paper/table5_transfer.csv", hps_config.grid_runs(CONFIG), True, False),
    "table6": TableInput("paper/table6_responses_finetuning.csv", hps_config.n_runs(CONFIG), False, False),
    "table7": TableInput("paper/table7_responses_transfer.csv", hps_config.n_runs(CONFIG), True, False),
    "table8": TableInput("paper/table8_beta_finetuning.csv", hps_config.beta_runs(CONFIG), False, False),
}
# With one data set there is no transfer, and no table of it.
TRANSFER = CONFIG["evaluation"]["transfer"] and len(DATASETS) > 1
TABLES = {name: shown for name, shown in TABLES.items() if TRANSFER or not shown.transfer}
TABLE_NAMES = [*TABLES, "training_time"]
SUFFIXES = ["csv", "md", "html"]


def table(name):
    """A table's three files."""
    return expand(f"{RESULTS}/tables/{name}.{{suffix}}", suffix=SUFFIXES)


def table_rows(wildcards):
    """Command-line options for the row order: the grid's names, and those that only an ablation has."""
    methods = [method.split("-") for method in CONFIG["ablations"]["methods"]]
    rewards = [*CONFIG["grid"]["rewards"], *(reward for reward, _ in methods)]
    losses = [*CONFIG["grid"]["losses"], *(loss for _, loss in methods)]
    return options(
        {"datasets": DATASETS, "rewards": list(dict.fromkeys(rewards)), "losses": list(dict.fromkeys(losses))}
    )


def table_evaluations(wildcards):
    """The evaluations that a table is made from: folders of policies, and in them those of test sets."""
    shown = TABLES[wildcards.table]
    found = [f"{RESULTS}/evaluations/sft/{test_set}" for test_set in DATASETS if shown.sft]
    for run in shown.runs:
        for test_set in transfer_sets(run) if shown.transfer else [run.dataset]:
            found.append(f"{RESULTS}/evaluations/{RUN_NAMES[run]}/{test_set}")
    return found


# --- figures ---------------------------------------------------------------------------------------------------------


FIGURE_TABLES = {
    "margins": [name for name in ("table2", "table5") if name in TABLES],
    "ablation_n": [name for name in ("table6", "table7") if name in TABLES],
    "ablation_beta": ["table8"],
    "training_time": ["training_time"],
}
PAPER_FILES = {name: shown.paper for name, shown in TABLES.items()} | {"training_time": "paper/training_hours.csv"}


def all_figures():
    """PNG and SVG of every figure."""
    curves = [f"training_curves_{dataset}" for dataset in DATASETS]
    return expand(f"{RESULTS}/figures/{{name}}.{{suffix}}", name=[*FIGURE_TABLES, *curves], suffix=["png", "svg"])
