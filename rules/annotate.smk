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
    params:
        toy=TOY_FLAG,
        rewards=REWARD_OPTIONS,
        score_tokens=COMPUTE["score_tokens"],
    shell:
        "python workflow_scripts/annotate.py --pairs {input.pairs} --candidates {input.candidates} "
        "--reward-model {input.reward} {params.rewards} --score-tokens {params.score_tokens} {params.toy} "
        "--out {output} > {log} 2>&1"
