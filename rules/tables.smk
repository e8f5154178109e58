# Tables 2, 5, 6, 7 and 8 with intervals, ours beside the paper's; and the training time.
rule table:
    input:
        policies=lambda w: list(dict.fromkeys(str(Path(folder).parent) for folder in table_evaluations(w))),
        paper=lambda w: TABLES[w.table].paper,
    output:
        csv=f"{RESULTS}/tables/{{table}}.csv",
        md=f"{RESULTS}/tables/{{table}}.md",
        html=report(
            f"{RESULTS}/tables/{{table}}.html",
            caption="../report/table.rst",
            category="2 Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"{LOGS}/tables/{{table}}.log",
    conda:
        "../envs/report.yaml"
    params:
        evaluations=table_evaluations,
        rows=table_rows,
        options=options({key: CONFIG["evaluation"][key] for key in ("bleu", "margin_pair")}),
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_table.py --table {wildcards.table} --evaluations {params.evaluations} "
        "--paper {input.paper} {params.rows} {params.options} --world {params.world} "
        "--csv {output.csv} --markdown {output.md} --html {output.html} > {log} 2>&1"


# Beyond the paper: hard sampling and the weight N of the drawn negative, each changed alone.
rule make_table_attribution:
    input:
        [f"{RESULTS}/evaluations/{run.name}" for run in attribution_runs(CONFIG)],
    output:
        csv=f"{RESULTS}/tables/table_attribution.csv",
        md=f"{RESULTS}/tables/table_attribution.md",
        html=report(
            f"{RESULTS}/tables/table_attribution.html",
            caption="../report/attribution.rst",
            category="2 Tables",
            labels={"table": "A: attribution"},
        ),
    log:
        f"{LOGS}/tables/table_attribution.log",
    conda:
        "../envs/report.yaml"
    params:
        evaluations=[f"{RESULTS}/evaluations/{run.name}/{run.dataset}" for run in attribution_runs(CONFIG)],
        rows=options(
            {
                **CONFIG["attribution"],
                "multiplicity": CONFIG["objective"]["multiplicity"],
            }
        ),
        options=options({key: CONFIG["evaluation"][key] for key in ("bleu", "margin_pair")}),
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_attribution.py --evaluations {params.evaluations} {params.rows} {params.options} "
        "--world {params.world} --csv {output.csv} --markdown {output.md} --html {output.html} > {log} 2>&1"


rule make_training_time:
    input:
        trainings=expand(f"{RESULTS}/runs/{{run}}/training.json", run=[run.name for run in grid_runs(CONFIG)]),
        paper="paper/training_hours.csv",
    output:
        csv=f"{RESULTS}/tables/training_time.csv",
        md=f"{RESULTS}/tables/training_time.md",
        html=report(
            f"{RESULTS}/tables/training_time.html",
            caption="../report/training_time.rst",
            category="2 Tables",
            labels={"table": "training time"},
        ),
    log:
        f"{LOGS}/tables/training_time.log",
    conda:
        "../envs/report.yaml"
    params:
        trainings=lambda w, input: [str(Path(file).parent) for file in input.trainings],
        # Beside the trainings, but no inputs: a benchmark file appears with its job's outputs and is not one of them.
        benchmarks=lambda w, input: [
            f"{BENCHMARKS}/train/{Path(file).parent.relative_to(f'{RESULTS}/runs')}.tsv" for file in input.trainings
        ],
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_training_time.py --trainings {params.trainings} --benchmarks {params.benchmarks} "
        "--paper {input.paper} --world {params.world} --csv {output.csv} --markdown {output.md} --html {output.html} "
        "> {log} 2>&1"
