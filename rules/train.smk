# Sec. 6, App. D.1: one policy a reward, loss, data set, n and beta; LoRA on the SFT policy, which is the reference.
rule train:
    input:
        policy=model("policy"),
        examples=lambda w: f"{RESULTS}/examples/{RUN_OF[w.run].dataset}/train",
    output:
        policy=directory(f"{RESULTS}/runs/{{run}}/policy"),
        log=f"{RESULTS}/runs/{{run}}/log.jsonl",
        summary=f"{RESULTS}/runs/{{run}}/training.json",
    log:
        f"{LOGS}/train/{{run}}.log",
    benchmark:
        f"{BENCHMARKS}/train/{{run}}.tsv"
    conda:
        "../envs/train.yaml"
    resources:
        launcher=PIPELINE.launcher(),
        cost=PIPELINE.cost("train"),
    params:
        run=lambda w: options(RUN_OF[w.run].record(), leave_out=("beta",)),
        settings=lambda w: PIPELINE.settings("train", RUN_OF[w.run]),
        checkpoints=lambda w: f"{RESULTS}/checkpoints/{w.run}",
    shell:
        "{resources.launcher} workflow_scripts/train.py {params.run} --policy {input.policy} --examples {input.examples} "
        "{params.settings} {resources.cost} --checkpoints {params.checkpoints} --out-policy {output.policy} "
        "--out-log {output.log} --out-summary {output.summary} > {log} 2>&1"
