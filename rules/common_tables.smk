# What the tables, figures, claims and the audit are made from. Rules are in the files beside this one.

# --- tables ----------------------------------------------------------------------------------------------------------


TableInput = namedtuple("TableInput", "paper runs transfer sft")

# What each table shows: the paper's file, the runs, whether on the other data set, whether beside the SFT policy.
TABLES = {
    "table2": TableInput("paper/table2_finetuning.csv", grid_runs(CONFIG), False, True),
    "table5": TableInput("paper/table5_transfer.csv", grid_runs(CONFIG), True, False),
    "table6": TableInput("paper/table6_responses_finetuning.csv", n_runs(CONFIG), False, False),
    "table7": TableInput("paper/table7_responses_transfer.csv", n_runs(CONFIG), True, False),
    "table8": TableInput("paper/table8_beta_finetuning.csv", beta_runs(CONFIG), False, False),
}
PAPER_NUMBERS = [*(shown.paper for shown in TABLES.values()), "paper/training_hours.csv", "paper/table3_human.csv"]
PAPER_NUMBERS += ["paper/table4_win_rate.csv", "paper/quoted.csv"]
# With one data set there is no transfer, and no table of it.
TRANSFER = CONFIG["evaluation"]["transfer"] and len(DATASETS) > 1
TABLES = {name: shown for name, shown in TABLES.items() if TRANSFER or not shown.transfer}

# Table 4: the judged method with each of its baselines (JUDGED).
JUDGE_VARIABLES = [CONFIG["judge"][f"{name}_variable"] for name in ("url", "model", "key")]
JUDGE_MISSING = missing_variables(os.environ, *JUDGE_VARIABLES) if CONFIG["judge"]["source"] == "openai" else []
JUDGE_FACTS = Path(f"{RESULTS}/judge/judge.json")


def why_no_judge():
    """Why Table 4 cannot be made; empty if it can. What has been judged stays a table without the variables."""
    if not JUDGED:
        return f"judge.method: {CONFIG['judge']['method']} is not in the grid"
    if JUDGE_MISSING and not JUDGE_FACTS.is_file():
        return f"{', '.join(JUDGE_MISSING)} not set: the judge's URL, model and key come from the environment"
    return ""


def judge_model():
    """The model that judges: part of the rule's parameters, so that another one judges anew."""
    if CONFIG["judge"]["source"] == "true_reward":
        return "true reward"
    return hps_files.read_json(JUDGE_FACTS)["model"] if JUDGE_MISSING else os.environ[JUDGE_VARIABLES[1]]


def judge_policies(number):
    """Folders of the evaluations that are compared: of the method (number 0) or of the baselines (1)."""
    if why := why_no_judge():
        raise WorkflowError(f"Table 4: {why}")
    names = [("sft" if pair[number] is None else pair[number].name, pair[0].dataset) for pair in JUDGED]
    return [f"{RESULTS}/evaluations/{policy}/{test_set}" for policy, test_set in names]


# Table 3: the human study, of the methods that the grid has, at the first training seed.
STUDY_RUNS = study_runs(CONFIG)
STUDY_METHODS = list(dict.fromkeys(run.method if run else "sft" for _, run in STUDY_RUNS))
RETURNED = CONFIG["user_study"]["ratings"]

# What comes from outside and is read last of all is looked at first.
try:
    if CONFIG["judge"]["source"] == "openai" and not JUDGE_MISSING:
        endpoint_from(os.environ, *JUDGE_VARIABLES)
    RATINGS = list(map(str, returned_files(RETURNED))) if RETURNED else []
except InputError as error:
    raise WorkflowError(str(error)) from None


def why_no_study():
    """Why Table 3 cannot be made; empty if it can."""
    found = ", ".join(STUDY_METHODS)
    return "" if len(STUDY_METHODS) > 1 else f"user_study.methods: of them the grid has only {found or 'none'}"


def study_evaluations():
    """Folders of the evaluations whose responses are rated: test set by test set, the methods in their order."""
    if why := why_no_study():
        raise WorkflowError(f"Table 3: {why}")
    return [f"{RESULTS}/evaluations/{run.name if run else 'sft'}/{test_set}" for test_set, run in STUDY_RUNS]


def study_ratings(wildcards):
    """What Table 3 is made from: the returned files, and the key: the one beside them, else that of the pages."""
    if not RETURNED:
        own = {"study": f"{RESULTS}/user_study"}
        return own | {"simulated": f"{RESULTS}/simulated_ratings"} if CONFIG["user_study"]["simulate"] else own
    key = Path(RETURNED) / "key.json"
    return {"ratings": RATINGS} | ({"key": str(key)} if key.is_file() else {"study": f"{RESULTS}/user_study"})


def study_files(input):
    """The returned files as a command-line option. Simulated ones exist only when this job runs: hence the pattern."""
    files = [shlex.quote(file) for file in input.get("ratings", [])]
    if "simulated" in input.keys():
        files = [f"{input.simulated}/*.json"]
    return f"--ratings {' '.join(files)}" if files else ""


# What `all` and the report go without, and why: they say so.
LEFT_OUT = {"Table 3 (human study)": why_no_study(), "Table 4 (win rates)": why_no_judge()}
LEFT_OUT = {name: why for name, why in LEFT_OUT.items() if why}
config["left_out"] = LEFT_OUT

CANNOT = {"table3": why_no_study(), "table4": why_no_judge()}
ATTRIBUTED = ["table_attribution"] if CONFIG["attribution"]["datasets"] else []
TABLE_NAMES = [*TABLES, *(name for name, why in CANNOT.items() if not why), *ATTRIBUTED, "training_time"]
SUFFIXES = ["csv", "md", "html"]


def warnings():
    """What a run says when it starts: what it goes without, and what of the hub is not pinned."""
    said = [f"{name}: left out of the report. {why}" for name, why in LEFT_OUT.items()]
    if not_pinned() and not PINNING:
        said.append(
            f"Not pinned in {hub_lock.LOCK}: {', '.join(not_pinned())}. The newest commit is taken and recorded; "
            "`snakemake --cores 1 pin` pins it."
        )
    return said


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
            found.append(f"{RESULTS}/evaluations/{run.name}/{test_set}")
    return found


# --- audit ----------------------------------------------------------------------------------------------------------


def annotated_sets():
    """The data sets whose annotated pairs the audit measures.

    Such a pair costs generation and rewards, hours at scale. So the audit, asked for alone, takes what is there
    already; in a run that makes them anyway it waits for all.
    """
    if set(workflow.dag_settings.targets) != {"audit"}:
        return DATASETS
    stages = ("candidates", "scored", "reference")
    made = {name: [Path(file) for stage in stages for file in shards(stage, name, "test")] for name in DATASETS}
    return [name for name, files in made.items() if all(file.is_file() for file in files)]


def annotated_files(name):
    """A stage's files of their test prompts, data set by data set."""
    return lambda wildcards: [file for dataset in annotated_sets() for file in shards(name, dataset, "test")]


# --- claims ---------------------------------------------------------------------------------------------------------


# All policies of the paper's tables, and the tables that are no sums over test prompts.
CLAIMS_RUNS = dict.fromkeys(run for runs in (grid_runs, n_runs, beta_runs) for run in runs(CONFIG))
CLAIMS_POLICIES = ["sft", *(run.name for run in CLAIMS_RUNS)]
CLAIMS_TABLES = [f"{RESULTS}/tables/{name}.csv" for name in ("table3", "table4") if name in TABLE_NAMES]
CLAIMS_TABLES.append(f"{RESULTS}/theory/theory.csv")


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
