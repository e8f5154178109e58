# What the tables, figures, claims and the audit are made from. Rules are in the files beside this one.
from hps.evidence import tables as evidence
from hps.workflow.reported import BESIDE_THE_PAPERS, PAPER_NUMBERS, Reported

REPORTED = Reported(PIPELINE)
RUNS, SPECS, FIGURES = REPORTED.runs, REPORTED.tables, REPORTED.figures


def made(stem, category, *kinds, **labels):
    """A part's files by kind; the last is shown in the report, in this category."""
    shown = report(f"{RESULTS}/{stem}.{kinds[-1]}", caption="../report/caption.rst", category=category, labels=labels)
    return {kind: f"{RESULTS}/{stem}.{kind}" for kind in kinds[:-1]} | {kinds[-1]: shown}


def output_folder(wildcards, output):
    """The folder of a part's files, which its command names itself."""
    return str(Path(output[0]).parent)


# --- tables ----------------------------------------------------------------------------------------------------------


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
    return read_facts(JUDGE_FACTS)["model"] if JUDGE_MISSING else os.environ[JUDGE_VARIABLES[1]]


def judge_policies(number):
    """Folders of the evaluations that are compared: of the method (number 0) or of the baselines (1)."""
    if why := why_no_judge():
        raise WorkflowError(f"Table 4: {why}")
    return [PIPELINE.evaluation(PIPELINE.policy(pair[number], pair[0].seed), pair[0].dataset) for pair in JUDGED]


# Table 3: the human study, of the methods that the grid has, at one training seed.
STUDY_RUNS = study_runs(CONFIG)
STUDY_METHODS = list(dict.fromkeys(run.method if run else "sft" for _, run in STUDY_RUNS))
RETURNED = CONFIG["user_study"]["ratings"]

# What comes from outside and is read last of all is looked at first.
if CONFIG["judge"]["source"] == "openai" and not JUDGE_MISSING:
    or_stop(endpoint_from, os.environ, *JUDGE_VARIABLES)
RATINGS = list(map(str, or_stop(returned_files, RETURNED))) if RETURNED else []


def why_no_study():
    """Why Table 3 cannot be made; empty if it can."""
    found = ", ".join(STUDY_METHODS)
    return "" if len(STUDY_METHODS) > 1 else f"user_study.methods: of them the grid has only {found or 'none'}"


def study_evaluations():
    """Folders of the evaluations whose responses are rated: test set by test set, the methods in their order."""
    if why := why_no_study():
        raise WorkflowError(f"Table 3: {why}")
    return evaluations_of(STUDY_RUNS)


def evaluations_of(runs):
    """Folders of the evaluations of (test set, run), no run being the SFT policy."""
    return [PIPELINE.evaluation(PIPELINE.policy(run, shared_seed(CONFIG)), test_set) for test_set, run in runs]


# The page of answers: test set by test set, ours and then those of policies that others trained.
ANSWERED = answer_runs(CONFIG)
ANSWERING = [*dict.fromkeys(run.method if run else "sft" for _, run in ANSWERED), *PIPELINE.published]


def answer_evaluations():
    """Folders of the evaluations whose answers are shown, of one training seed."""
    seed = shared_seed(CONFIG)
    others = [name for name, (_, own) in PIPELINE.of_others.items() if own == seed]
    return [
        PIPELINE.evaluation(policy, test_set)
        for test_set in DATASETS
        for policy in [*(PIPELINE.policy(run, seed) for one, run in ANSWERED if one == test_set), *others]
    ]


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
CANNOT = {"table3": why_no_study(), "table4": why_no_judge()}
LEFT_OUT = {SPECS[name].title: why for name, why in CANNOT.items() if why}
TABLE_NAMES = [name for name in SPECS if not CANNOT.get(name)]
config |= {"left_out": LEFT_OUT, "tables": [SPECS[name].title for name in TABLE_NAMES]}


def warnings():
    """What a run says when it starts: what it goes without, what of the hub is not pinned, what makes it slow."""
    said = [f"{name}: left out of the report. {why}" for name, why in LEFT_OUT.items()]
    said += REPORTED.without_runs.values()
    if not_pinned() and not PINNING:
        said.append(
            f"Not pinned in {hub_lock.LOCK}: {', '.join(not_pinned())}. The newest commit is taken and recorded; "
            "`snakemake --cores 1 pin` pins it."
        )
    if COMPUTE["dtype"] == "bfloat16" and workflow.local_exec and machine.emulates_bfloat16():
        said.append(
            "This processor has no instructions for bfloat16, with which large models take many times as long as with "
            "--config 'compute={dtype: float32}'"
        )
    return said


TABLE_KINDS = ["csv", "md", "tex", "html"]


def table(name):
    """A table's files."""
    return expand(f"{RESULTS}/tables/{name}.{{suffix}}", suffix=TABLE_KINDS)


def target_table(name):
    """What the target of a table asks for; where there is no such table, it says why when it is asked."""

    def files(wildcards):
        if name in REPORTED.without_runs:
            raise WorkflowError(REPORTED.without_runs[name])
        return table(name)

    return files


def table_input(wildcards):
    """What a table is made from, by its source."""
    spec = SPECS[wildcards.table]
    if spec.source == evidence.RATINGS:
        return study_ratings(wildcards)
    if spec.source == evidence.JUDGEMENTS:
        return {"judge": rules.judge.output}
    if spec.source == evidence.TRAININGS:
        return {"trainings": [f"{RESULTS}/runs/{run.name}/training.json" for run in RUNS[spec.runs]]}
    return {"policies": list(dict.fromkeys(str(Path(folder).parent) for folder in REPORTED.evaluations(spec)))}


def table_options(wildcards, input):
    """The same as command-line options. A benchmark file appears with its job's outputs and is not one of them."""
    spec = SPECS[wildcards.table]
    if spec.source == evidence.RATINGS:
        key = f"{input.study}/key.json" if "study" in input.keys() else input.key
        return f"--key {key} {study_files(input)}"
    if spec.source == evidence.JUDGEMENTS:
        return f"--judge {input.judge}"
    if spec.source == evidence.TRAININGS:
        names = [run.name for run in RUNS[spec.runs]]
        trainings = [f"{RESULTS}/runs/{name}" for name in names]
        return options({"trainings": trainings, "benchmarks": [f"{BENCHMARKS}/train/{name}.tsv" for name in names]})
    return options({"evaluations": REPORTED.evaluations(spec)})


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
CLAIMS_POLICIES = [*PIPELINE.sft, *REPORTED.claimed]
CLAIMS_TABLES = [
    f"{RESULTS}/tables/{name}.csv"
    for name in TABLE_NAMES
    if SPECS[name].source in (evidence.JUDGEMENTS, evidence.RATINGS)
]
CLAIMS_TABLES.append(f"{RESULTS}/theory/theory.csv")


# --- figures ---------------------------------------------------------------------------------------------------------


def all_figures():
    """PNG and SVG of every figure."""
    curves = [f"training_curves_{dataset}" for dataset in DATASETS]
    return expand(f"{RESULTS}/figures/{{name}}.{{suffix}}", name=[*FIGURES, *curves], suffix=["png", "svg"])
