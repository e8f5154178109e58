# Names that all rules share. What they mean is said in hps/workflow, which tests reach; no rule stands here.
import copy
import json
import os
import re
import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from snakemake.exceptions import WorkflowError

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "workflow_scripts"))

from hps.workflow import config as hps_config, jobs, locks, machine, terminal
from hps.models import hub_lock
from hps.workflow.pipeline import Pipeline
from hps.workflow.grid import (
    ablation_runs,
    answer_runs,
    attribution_runs,
    beta_runs,
    grid_runs,
    judged_runs,
    n_runs,
    shared_seed,
    study_runs,
)
from hps.support.errors import InputError
from hps.support.settings import options
from hps.support.yaml_file import read_yaml
from hps.judge.comparisons import read_facts
from hps.judge.client import endpoint_from, missing_variables
from hps.user_study.ratings import returned_files


def or_stop(ask, *given):
    """The answer of `ask`; bad input stops Snakemake with its line alone."""
    try:
        return ask(*given)
    except InputError as error:
        sys.exit(f"error: {error}")


# Before Snakemake reads it, whose own message names no line; and what it has dropped by then.
or_stop(read_yaml, "config.yaml")
or_stop(hps_config.check_command_line, sys.argv)


configfile: "config.yaml"


GIVEN = copy.deepcopy(config)  # config.yaml with the command line over it
CONFIG = or_stop(hps_config.load, ROOT, GIVEN, workflow.overwrite_configfiles)
PIPELINE = Pipeline(CONFIG)

# Snakemake's own copy (captions, report) shows the resolved values too.
config.update(CONFIG.values)

RESULTS = PIPELINE.results
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
DATASETS = CONFIG["grid"]["datasets"]
TOY = PIPELINE.toy
TOY_FLAG = "--toy" if TOY else ""
COMPUTE = CONFIG["compute"]
RUN_OF = PIPELINE.runs
JUDGED = judged_runs(CONFIG)
ROLES = PIPELINE.models
SOURCES = PIPELINE.sources
model = PIPELINE.model
test_sets = PIPELINE.test_sets
transfer_sets = PIPELINE.transfer_sets


# Jobs run under the Python of this Snakemake, unless environments of their own were asked for (--sdm).
if not workflow.deployment_settings.deployment_method:
    jobs.python_is(sys.executable)

locks.release_those_of_the_dead(workflow)
jobs.remove_left_over()


scattergather:
    **COMPUTE["shards"],


wildcard_constraints:
    dataset="|".join(map(re.escape, DATASETS)),
    split="train|test",
    run=r"dataset~[^/]+/method~[^/]+",
    policy=r"sft_seed~\d+|published~[^/]+_seed~\d+|dataset~[^/]+/method~[^/]+",


def shards(name, dataset, split):
    """All shards of a stage's file for one split of one data set."""
    return shard_files(f"{RESULTS}/{name}/{dataset}/{split}.{{scatteritem}}.parquet", split)


def shard_files(pattern, split):
    """A file of each shard of one split."""
    return getattr(gather, split)(pattern)


def generation_env(env):
    """Environment of a job that generates; vLLM has one of its own."""
    return "../envs/vllm.yaml" if COMPUTE["generation"] == "vllm" else f"../envs/{env}.yaml"


# Where jobs evaluate several policies, each is a rule; what a profile says of `evaluate` holds for all of them.
# Snakemake reads this when the first rule is defined.
SAID = workflow.resource_settings.overwrite_resources
if "evaluate" in SAID:
    workflow.resource_settings.overwrite_resources = {
        **dict.fromkeys(PIPELINE.evaluation_jobs, SAID["evaluate"]),
        **SAID,
    }


# --- hub ---------------------------------------------------------------------------------------------------------------


# A pin that the configuration contradicts stops the run here; `pin`, which renews it, must be able to start. Snakemake
# does not know its targets yet when it reads this, so the command line is asked.
PINNING = "pin" in sys.argv
LOCK = or_stop(hub_lock.read, hub_lock.LOCK)
for wanted in PIPELINE.wanted if not PINNING else ():
    or_stop(hub_lock.pinned, LOCK, wanted)


def not_pinned():
    """The repositories of this run without an entry in the lock file."""
    return sorted({wanted.repo for wanted in PIPELINE.wanted if (wanted.kind, wanted.repo) not in LOCK})


def pinned_data(wildcards):
    """The lock file's entry of a data set that comes from the hub.

    As a parameter of the rule: when this entry changes, the data are fetched anew, when another does, they are not.
    """
    return pinned_entry("dataset", "" if PIPELINE.data_dir else CONFIG["data"][wildcards.dataset]["hub"])


def pinned_model(wildcards):
    """The lock file's entry of a model that comes from the hub, likewise."""
    return pinned_entry("model", SOURCES[wildcards.role].get("repo"))


def pinned_published(wildcards):
    """The lock file's entry of a policy that others trained, likewise."""
    return pinned_entry("model", PIPELINE.published[wildcards.name]["repo"])


def pinned_entry(kind, repo):
    found = LOCK.get((kind, repo))
    return hub_lock.entry(found) if found else {}


def lock_option(pinned):
    """The lock file as a command-line option, for the jobs whose repository has an entry there."""
    return lambda wildcards: options({"lock": hub_lock.LOCK}) if pinned(wildcards) else ""


def to_publish(wildcards):
    """What is published. Where it has nowhere to go, that is said before the first job."""
    if not CONFIG["publish"]["repo"]:
        where = CONFIG.where("publish.repo")
        sys.exit(f"error: {where}: publish.repo: is empty; name a repository of yours on the hub, such as me/hps")
    return f"{RESULTS}/publication"


# --- evaluation ------------------------------------------------------------------------------------------------------


def policies_sets(policies):
    """The data sets that a job evaluates its policies on."""
    return list(dict.fromkeys(test_set for policy in policies for test_set in test_sets(policy)))


def tested(policies):
    return lambda w: policies_sets([policy.format(**w) for policy in policies])


def evaluated(policies):
    """What a job evaluates its policies with; some have no training of ours."""

    def files(wildcards):
        own = [policy.format(**wildcards) for policy in policies]
        runs = [f"{RESULTS}/runs/{policy}" for policy in own if policy in RUN_OF]
        return {
            "pairs": [f"{RESULTS}/data/{test_set}/test.parquet" for test_set in policies_sets(own)],
            "examples": [f"{RESULTS}/examples/{test_set}/test" for test_set in policies_sets(own)],
            "trained": list(dict.fromkeys(filter(None, map(PIPELINE.weights, own)))),
            "trainings": [f"{run}/training.json" for run in runs],
        }

    return files


def evaluation_file(job):
    """The name of a job's log: that of its policy, or where it has several its number."""
    return "{policy}" if COMPUTE["policies_per_job"] == 1 else job


def policy_option(policy):
    """A policy as `evaluate` takes it."""
    own = {
        "seed": PIPELINE.evaluation_seed(policy),
        "test_sets": test_sets(policy),
        "out": f"{RESULTS}/evaluations/{policy}",
        "trained": PIPELINE.weights(policy),
        "training": f"{RESULTS}/runs/{policy}/training.json" if policy in RUN_OF else "",
        "published": PIPELINE.of_others.get(policy, ("",))[0],
    }
    return shlex.quote(json.dumps({key: value for key, value in own.items() if value != ""}))
