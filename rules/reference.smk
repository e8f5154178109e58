# Log-probs and token ids of every candidate under the reference, once for all trainings and evaluations.
rule reference:
    input:
        pairs=f"{RESULTS}/data/{{dataset}}/{{split}}.parquet",
        candidates=rules.augment.output.candidates,
        policy=model("policy"),
    output:
        log_probs=f"{RESULTS}/reference/{{dataset}}/{{split}}.{{scatteritem}}.parquet",
        prompts=f"{RESULTS}/prompts/{{dataset}}/{{split}}.{{scatteritem}}.parquet",
    log:
        f"{LOGS}/reference/{{dataset}}.{{split}}.{{scatteritem}}.log",
    benchmark:
        f"{BENCHMARKS}/reference/{{dataset}}.{{split}}.{{scatteritem}}.tsv"
    conda:
        "../envs/score.yaml"
    resources:
        cost=PIPELINE.cost("reference"),
    params:
        settings=PIPELINE.settings("reference"),
    shell:
        "python workflow_scripts/reference.py --pairs {input.pairs} --candidates {input.candidates} --policy {input.policy} "
        "{params.settings} {resources.cost} --out {output.log_probs} --out-prompts {output.prompts} > {log} 2>&1"
