# The Snakemake report: tables, figures, what the data and models were, the configuration, and the versions.
MADE_OF = REPORTED.caption(
    "What this run was made of. *data*: what was read from the data files and left out, by reason; what was generated; how "
    "many prompts the trainings used. *models*: source, size and held-out accuracy of each model, in a toy world with the "
    "rank correlation of the reward models with the true reward. *configuration*: every key, its value and the layer that "
    "set it. *versions*: code, packages and settings that the results record. *cost*: time and memory of the jobs, stage by "
    "stage."
)
CATEGORY = "5 Data and configuration"
OVERVIEWS = ["data", "models", "configuration", "versions"]


rule configuration:
    output:
        f"{RESULTS}/config.json",
    log:
        f"{LOGS}/configuration.log",
    conda:
        "../envs/report.yaml"
    resources:
        given=shlex.quote(json.dumps(GIVEN)),
    # A change of what only costs writes it no more than it makes any result anew.
    params:
        values=PIPELINE.values,
    shell:
        "python workflow_scripts/resolve_config.py --given {resources.given} --out {output} > {log} 2>&1"


rule overview:
    input:
        config=rules.configuration.output,
        counts=expand(f"{RESULTS}/data/{{dataset}}/counts.json", dataset=DATASETS),
        candidates=[
            shard_files(f"{RESULTS}/candidates/{dataset}/{split}.{{scatteritem}}.json", split)
            for dataset in DATASETS
            for split in ("train", "test")
        ],
        models=[model(role) for role in ROLES],
        trainings=expand(f"{RESULTS}/runs/{{run}}/training.json", run=RUN_OF),
    output:
        [made(f"overview/{name}", CATEGORY, "html", what=name)["html"] for name in OVERVIEWS],
    log:
        f"{LOGS}/overview.log",
    conda:
        "../envs/report.yaml"
    params:
        models=lambda w, input: [f"{folder}/model.json" for folder in input.models],
        caption=MADE_OF,
        out=output_folder,
    shell:
        "python workflow_scripts/report.py overview --config {input.config} --counts {input.counts} "
        "--candidates {input.candidates} --models {params.models} --trainings {input.trainings} --out {params.out} "
        "> {log} 2>&1"


rule cost:
    input:
        # The last results: every job that costs anything has left its benchmark file by then.
        rules.claims.output.csv,
        [table(name) for name in TABLE_NAMES],
        rules.audit.output.csv,
    output:
        **made("overview/cost", CATEGORY, "html", what="cost"),
    log:
        f"{LOGS}/cost.log",
    conda:
        "../envs/report.yaml"
    params:
        benchmarks=BENCHMARKS,
        config=REPORTED.config("cost"),
        caption=MADE_OF,
        out=output_folder,
    shell:
        "python workflow_scripts/report.py cost --config {params.config} --benchmarks {params.benchmarks} "
        "--out {params.out} > {log} 2>&1"


rule report_contents:
    input:
        rules.claims.output,
        [table(name) for name in TABLE_NAMES],
        all_figures(),
        rules.audit.output,
        rules.theory.output,
        rules.answers.output,
        rules.overview.output,
        rules.cost.output,


rule report:
    input:
        rules.report_contents.input,
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/report.log",
    conda:
        "../envs/report.yaml"
    resources:
        given=shlex.quote(json.dumps(GIVEN)),
    # Snakemake makes its report from finished jobs, so a second Snakemake is asked for it when they are. It reads the
    # same configuration, and only reads: hence no lock.
    shell:
        "python workflow_scripts/report.py document --given {resources.given} --out {output} > {log} 2>&1"
