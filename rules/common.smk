# Names that all rules share: the resolved configuration, the folders, and the runs. No rule stands here.
import copy
import json
import os
import shlex
import sys
from collections import namedtuple
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from hps.workflow import config as hps_config, jobs
from hps.models import hub_lock
from hps.workflow.config import MODEL_KEYS, options
from hps.workflow.grid import (
    ablation_runs,
    all_runs,
    attribution_runs,
    beta_runs,
    grid_runs,
    judged_runs,
    n_runs,
    study_runs,
)
from hps.support.errors import InputError
from hps.judge.comparisons import read_facts
from hps.judge.client import endpoint_from, missing_variables
from hps.user_study.ratings import returned_files

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

# How reward models read and score, in annotation and evaluation.
REWARD_OPTIONS = options({f"reward_{key}": value for key, value in CONFIG["rewards"].items()})

# One row a training; ablations are part of the same space, so no run is trained twice.
RUN_OF = {run.name: run for run in all_runs(CONFIG)}


def of_run(section, **options_of):
    """A section of the configuration as the run has it, as command-line options."""
    return lambda wildcards: options(CONFIG.under(RUN_OF[wildcards.run])[section], **options_of)


# Jobs run under the Python of this Snakemake, unless environments of their own were asked for (--sdm).
if not workflow.deployment_settings.deployment_method:
    jobs.python_is(sys.executable)


scattergather:
    **COMPUTE["shards"],


wildcard_constraints:
    dataset="|".join(DATASETS),
    split="train|test",
    run=r"dataset~[^/]+/method~[^/]+",
    policy=r"sft|dataset~[^/]+/method~[^/]+",


def model(role):
    """Folder of a role's model, wherever it comes from."""
    return f"{RESULTS}/models/{role}"


def shards(name, dataset, split):
    """All shards of a stage's file for one split of one data set."""
    return shard_files(f"{RESULTS}/{name}/{dataset}/{split}.{{scatteritem}}.parquet", split)


def shard_files(pattern, split):
    """A file of each shard of one split."""
    return getattr(gather, split)(pattern)


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
        given |= {key: source.get(key) for key in ("hub", "hub_revision")}
        given |= {f"hub_{part}_files": names for part, names in source["hub_files"].items() if names}
    return options(given)


def data_splits():
    """Command-line options for the size and source of each split."""
    sizes = {}
    for split, wanted in CONFIG["data"]["splits"].items():
        sizes |= {split: wanted["prompts"], f"{split}_from": wanted["from"]}
    return options(sizes)


# --- hub ---------------------------------------------------------------------------------------------------------------


# What the hub is asked for; data only where no folder has it, the judge's model only where a policy is judged.
JUDGED = judged_runs(CONFIG)
WANTED = hub_lock.wanted(CONFIG, data=not DATA_DIR, judge=bool(JUDGED))
# A pin that the configuration contradicts stops the run here; `pin`, which renews it, must be able to start. Snakemake
# does not know its targets yet when it reads this, so the command line is asked.
PINNING = "pin" in sys.argv
try:
    LOCK = hub_lock.read(hub_lock.LOCK)
    if not PINNING:
        for wanted in WANTED:
            hub_lock.pinned(LOCK, wanted)
except InputError as error:
    raise WorkflowError(str(error)) from None


def not_pinned():
    """The repositories of this run without an entry in the lock file."""
    return sorted({wanted.repo for wanted in WANTED if (wanted.kind, wanted.repo) not in LOCK})


def pinned_data(wildcards):
    """The lock file's entry of a data set that comes from the hub.

    As a parameter of the rule: when this entry changes, the data are fetched anew, when another does, they are not.
    """
    return pinned_entry("dataset", "" if DATA_DIR else CONFIG["data"][wildcards.dataset]["hub"])


def pinned_model(wildcards):
    """The lock file's entry of a model that comes from the hub, likewise."""
    return pinned_entry("model", SOURCES[wildcards.role].get("repo"))


def pinned_entry(kind, repo):
    found = LOCK.get((kind, repo))
    return hub_lock.entry(found) if found else {}


def lock_option(pinned):
    """The lock file as a command-line option, for the jobs whose repository has an entry there."""
    return lambda wildcards: options({"lock": hub_lock.LOCK}) if pinned(wildcards) else ""


# --- models ----------------------------------------------------------------------------------------------------------


ROLES = {role: source for role, source in CONFIG["models"].items() if role != "tokenizer"}
# The judge's model is for slurm/serve_judge.sh: only `fetch` asks for it, no job does, since they talk to a server.
SERVED = {"judge": {"source": "hub"} | CONFIG["judge"]["hub"]} if CONFIG["judge"]["hub"] and JUDGED else {}
SOURCES = ROLES | SERVED


def roles_from(*sources):
    """A wildcard constraint: the roles whose model comes from one of these sources (none: matches nothing)."""
    return "|".join(role for role, given in SOURCES.items() if given["source"] in sources) or "(?!)"


def model_options(*leave_out):
    """The role's entry of config key `models` as command-line options."""

    def chosen(wildcards):
        given = SOURCES[wildcards.role]
        return options({key: given[key] for key in ("source", *MODEL_KEYS[given["source"]])}, leave_out=leave_out)

    return chosen


# --- generation ------------------------------------------------------------------------------------------------------


def generation_env(env):
    """Environment of a job that generates; vLLM has one of its own."""
    return "../envs/vllm.yaml" if COMPUTE["generation"] == "vllm" else f"../envs/{env}.yaml"


# --- training --------------------------------------------------------------------------------------------------------


def launcher():
    """The command that starts a training. One process needs no launcher, whose own start takes half as long again."""
    if COMPUTE["processes"] == 1:
        return "python"
    return f"python -m accelerate.commands.launch --config_file {hps_config.accelerate_file(CONFIG)}"


# --- evaluation ------------------------------------------------------------------------------------------------------


def trained(wildcards):
    """The policy under evaluation; `sft` is the policy before training and has none."""
    if wildcards.policy == "sft":
        return {}
    run = f"{RESULTS}/runs/{wildcards.policy}"
    return {"trained": f"{run}/policy", "training": f"{run}/training.json"}


def transfer_sets(run):
    """Where a run is evaluated in transfer: the other data set, if a table of transfer shows the run."""
    shown = CONFIG["evaluation"]["transfer"] and run in {*grid_runs(CONFIG), *n_runs(CONFIG)}
    return [other for other in DATASETS if shown and other != run.dataset]


def test_sets(policy):
    """All data sets that a policy is evaluated on, in one job; the SFT policy is on all."""
    return next(([run.dataset, *transfer_sets(run)] for name, run in RUN_OF.items() if name == policy), DATASETS)


def evaluation_seed(wildcards):
    """A run is sampled with its own seed, which all methods share; the SFT policy with the first."""
    seeds = [run.seed for name, run in RUN_OF.items() if name == wildcards.policy]
    return (seeds or CONFIG["seeds"])[0]
