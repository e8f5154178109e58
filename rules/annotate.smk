# Sec. 6: the reward model scores every candidate.
rule annotate:
    input:
        pairs=f"{RESULTS}/data/{{dataset}}/{{split}}.parquet",
        candidates=rules.augment.output.candidates,
        reward=model("reward"),
    output:
        f"{RESULTS}/scored/{{dataset}}/{{split}}.{{scatteritem}}.parquet",
    log:
        f"{LOGS}/annotate/{{dataset}}.{{split}}.{{scatteritem}}.log",
    benchmark:
        f"{BENCHMARKS}/annotate/{{dataset}}.{{split}}.{{scatteritem}}.tsv"
    conda:
        "../envs/score.yaml"
    resources:
        cost=PIPELINE.cost("annotate"),
    params:
        settings=PIPELINE.settings("annotate"),
        toy=TOY_FLAG,
    shell:
        "python workflow_scripts/annotate.py --pairs {input.pairs} --candidates {input.candidates} "
        "--reward-model {input.reward} {params.settings} {resources.cost} {params.toy} "
        "--out {output} > {log} 2>&1"
