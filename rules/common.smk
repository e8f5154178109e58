# Names that all rules share: the resolved configuration, the folders, and the runs. No rule stands here.
import copy
import sys
from pathlib import Path

import pandas as pd
from snakemake.exceptions import WorkflowError
from snakemake.utils import Paramspace

ROOT = Path(workflow.basedir)
SCRIPTS = ROOT / "workflow_scripts"
sys.path.insert(0, str(SCRIPTS))

from hps import config as hps_config
from hps.config import options
from hps.errors import InputError

GIVEN = copy.deepcopy(config)  # config.yaml with the command line over it
try:
    CONFIG = hps_config.load(ROOT, GIVEN)
except InputError as error:
    raise WorkflowError(str(error)) from None

# Snakemake's own copy (captions, report) shows the resolved values too.
config.update(CONFIG.values)

RESULTS = f"results/{CONFIG['preset']}"
LOGS = f"{RESULTS}/logs"
BENCHMARKS = f"{RESULTS}/benchmarks"
DATASETS = sorted({*CONFIG["grid"]["datasets"], CONFIG["ablations"]["dataset"]})
TOY = CONFIG["world"] == "toy"
TOY_FLAG = "--toy" if TOY else "--no-toy"
COMPUTE = CONFIG["compute"]

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
    test_set="|".join(DATASETS),
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


def other_datasets(dataset):
    """Where a policy trained on `dataset` is evaluated in transfer."""
    return [other for other in DATASETS if other != dataset]
