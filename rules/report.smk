# The Snakemake report: tables, figures, what the data and models were, the configuration, and the versions.
OVERVIEWS = ["data", "models", "configuration", "versions"]


rule configuration:
    output:
        f"{RESULTS}/config.json",
    log:
        f"{LOGS}/configuration.log",
    conda:
        "../envs/report.yaml"
    params:
        given=shlex.quote(json.dumps(GIVEN)),
    shell:
        "python workflow_scripts/resolve_config.py --given {params.given} --out {output} > {log} 2>&1"


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
        **{
            name: report(
                f"{RESULTS}/overview/{name}.html",
                caption="../report/overview.rst",
                category="5 Data and configuration",
                labels={"what": name},
            )
            for name in OVERVIEWS
        },
    log:
        f"{LOGS}/overview.log",
    conda:
        "../envs/report.yaml"
    params:
        models=lambda w, input: [f"{folder}/model.json" for folder in input.models],
        out=[f"--out-{name} {RESULTS}/overview/{name}.html" for name in OVERVIEWS],
    shell:
        "python workflow_scripts/make_overview.py --config {input.config} --counts {input.counts} "
        "--candidates {input.candidates} --models {params.models} --trainings {input.trainings} "
        "{params.out} > {log} 2>&1"


rule cost:
    input:
        # The last results: every job that costs anything has left its benchmark file by then.
        rules.claims.output.csv,
        [table(name) for name in TABLE_NAMES],
        rules.audit.output.csv,
    output:
        report(
            f"{RESULTS}/overview/cost.html",
            caption="../report/overview.rst",
            category="5 Data and configuration",
            labels={"what": "cost"},
        ),
    log:
        f"{LOGS}/cost.log",
    conda:
        "../envs/report.yaml"
    params:
        benchmarks=BENCHMARKS,
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_cost.py --benchmarks {params.benchmarks} --world {params.world} --out {output} "
        "> {log} 2>&1"


rule report_contents:
    input:
        rules.claims.output,
        [table(name) for name in TABLE_NAMES],
        all_figures(),
        rules.audit.output,
        rules.theory.output,
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
    params:
        given=shlex.quote(json.dumps(GIVEN)),
    # Snakemake makes its report from finished jobs, so a second Snakemake is asked for it when they are. It reads the
    # same configuration, and only reads: hence no lock.
    shell:
        "python workflow_scripts/make_report.py --given {params.given} --out {output} > {log} 2>&1"
