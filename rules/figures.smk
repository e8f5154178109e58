# What a reader would put in a talk, from the tables alone (training curves: from the trainings' logs).
rule figure:
    input:
        tables=lambda w: [f"{RESULTS}/tables/{name}.csv" for name in FIGURES[w.figure]],
        paper=lambda w: [f"{evidence.FOLDER}/{SPECS[name].paper}" for name in FIGURES[w.figure] if SPECS[name].paper],
    output:
        **made("figures/{figure}", "3 Figures", "png", "svg", figure="{figure}"),
    log:
        f"{LOGS}/figures/{{figure}}.log",
    wildcard_constraints:
        figure="|".join(FIGURES),
    conda:
        "../envs/report.yaml"
    params:
        config=lambda w: REPORTED.config("figure", [SPECS[name] for name in FIGURES[w.figure]]),
        caption=lambda w: REPORTED.caption(
            evidence.figure_caption(w.figure, [SPECS[name] for name in FIGURES[w.figure]])
        ),
        out=output_folder,
    shell:
        "python workflow_scripts/report.py figure --name {wildcards.figure} --config {params.config} "
        "--tables {input.tables} --out {params.out} > {log} 2>&1"


rule training_curves:
    input:
        logs=lambda w: [f"{RESULTS}/runs/{run.name}/log.jsonl" for run in RUNS["grid"] if run.dataset == w.dataset],
    output:
        **made("figures/training_curves_{dataset}", "3 Figures", "png", "svg", figure="training_curves, {dataset}"),
    log:
        f"{LOGS}/figures/training_curves_{{dataset}}.log",
    conda:
        "../envs/report.yaml"
    params:
        trainings=lambda w, input: [str(Path(file).parent) for file in input.logs],
        config=REPORTED.config("figure"),
        caption=REPORTED.caption(
            "The trainings of the main grid, a column a parameterization, a line a loss: pale as recorded at each "
            "optimizer step, strong as a moving average. The implicit reward margin is β times the difference in "
            "log-ratio between the best response and the negative it is compared with. It is not RM_DPO, and what it "
            "means differs between losses, as does the loss itself. γ and the hardness of the drawn negatives exist for "
            "HPS only: 0 is the easiest response of a prompt, 1 the hardest, and a uniform draw has mean 0.5."
        ),
        out=output_folder,
    shell:
        "python workflow_scripts/report.py curves --dataset {wildcards.dataset} --config {params.config} "
        "--trainings {params.trainings} --out {params.out} > {log} 2>&1"
