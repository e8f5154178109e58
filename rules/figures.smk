# What a reader would put in a talk, from the tables alone (training curves: from the trainings' logs).
rule figure:
    input:
        tables=lambda w: expand(f"{RESULTS}/tables/{{name}}.csv", name=FIGURE_TABLES[w.figure]),
        paper=lambda w: [PAPER_FILES[name] for name in FIGURE_TABLES[w.figure]],
    output:
        png=f"{RESULTS}/figures/{{figure}}.png",
        svg=report(
            f"{RESULTS}/figures/{{figure}}.svg",
            caption="../report/figure.rst",
            category="3 Figures",
            labels={"figure": "{figure}"},
        ),
    log:
        f"{LOGS}/figures/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURE_TABLES),
    conda:
        "../envs/report.yaml"
    params:
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_figure.py --figure {wildcards.figure} --tables {input.tables} --paper {input.paper} "
        "--world {params.world} --png {output.png} --svg {output.svg} > {log} 2>&1"


rule training_curves:
    input:
        lambda w: [f"{RESULTS}/runs/{run.name}/log.jsonl" for run in grid_runs(CONFIG) if run.dataset == w.dataset],
    output:
        png=f"{RESULTS}/figures/training_curves_{{dataset}}.png",
        svg=report(
            f"{RESULTS}/figures/training_curves_{{dataset}}.svg",
            caption="../report/training_curves.rst",
            category="3 Figures",
            labels={"figure": "training_curves, {dataset}"},
        ),
    log:
        f"{LOGS}/figures/training_curves_{{dataset}}.log",
    conda:
        "../envs/report.yaml"
    params:
        trainings=lambda w, input: [str(Path(file).parent) for file in input],
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_figure.py --figure training_curves --dataset {wildcards.dataset} "
        "--trainings {params.trainings} --world {params.world} --png {output.png} --svg {output.svg} > {log} 2>&1"
