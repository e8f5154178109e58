# Candidates, rewards, reference log-probs and token ids of one split, joined and checked once for all who read them.
rule examples:
    input:
        pairs=f"{RESULTS}/data/{{dataset}}/{{split}}.parquet",
        candidates=lambda w: shards("candidates", w.dataset, w.split),
        scored=lambda w: shards("scored", w.dataset, w.split),
        reference=lambda w: shards("reference", w.dataset, w.split),
        prompts=lambda w: shards("prompts", w.dataset, w.split),
    output:
        directory(f"{RESULTS}/examples/{{dataset}}/{{split}}"),
    log:
        f"{LOGS}/examples/{{dataset}}.{{split}}.log",
    benchmark:
        f"{BENCHMARKS}/examples/{{dataset}}.{{split}}.tsv"
    conda:
        "../envs/score.yaml"
    shell:
        "python workflow_scripts/examples.py --pairs {input.pairs} --candidates {input.candidates} "
        "--scored {input.scored} --reference {input.reference} --prompts {input.prompts} --out {output} > {log} 2>&1"
