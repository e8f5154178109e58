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
    params:
        launch=launcher(),
        run=lambda w: options(RUN_OF[w.run].record(), leave_out=("settings",)),
        settings=lambda w: shlex.quote(json.dumps(RUN_OF[w.run].record()["settings"])),
        objective=of_run("objective", leave_out=("beta", "label_smoothing")),
        smoothing=shlex.quote(json.dumps(CONFIG["objective"]["label_smoothing"])),
        pool=options({key: CONFIG["candidates"][key] for key in ("truncated", "human_first")}),
        options=of_run("training"),
        tensorboard=options({"tensorboard": CONFIG["tensorboard"]}),
        compute=options(
            {"dtype": POLICY_DTYPE}
            | {key: COMPUTE[key] for key in ("train_tokens", "activation_checkpointing", "processes")}
        ),
        checkpoints=lambda w: f"{RESULTS}/checkpoints/{w.run}",
    shell:
        "{params.launch} workflow_scripts/train.py {params.run} --settings {params.settings} --policy {input.policy} "
        "--examples {input.examples} {params.objective} --label-smoothing {params.smoothing} {params.pool} "
        "{params.options} {params.tensorboard} {params.compute} --checkpoints {params.checkpoints} --out-policy {output.policy} "
        "--out-log {output.log} --out-summary {output.summary} > {log} 2>&1"
