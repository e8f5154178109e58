# Sec. 6.1: each policy on the test prompts, of its own data set (fine-tuning) or of the other one (transfer).
rule evaluate:
    input:
        unpack(trained),
        policy=model("policy"),
        eval_reward=model("eval_reward"),
        pairs=f"{RESULTS}/data/{{test_set}}/test.parquet",
        candidates=lambda w: shards("candidates", w.test_set, "test"),
        scored=lambda w: shards("scored", w.test_set, "test"),
        reference=lambda w: shards("reference", w.test_set, "test"),
    output:
        directory(f"{RESULTS}/evaluations/{{test_set}}/{{policy}}"),
    log:
        f"{LOGS}/evaluate/{{test_set}}/{{policy}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{test_set}}/{{policy}}.tsv"
    conda:
        "../envs/evaluate.yaml"
    params:
        trained=lambda w, input: options({key: input[key] for key in ("trained", "training") if key in input.keys()}),
        options=options(CONFIG["evaluation"], leave_out=("bleu", "margin_pair", "resamples")),
        toy=TOY_FLAG,
        truncated=CONFIG["candidates"]["truncated"],
        compute=options({"dtype": POLICY_DTYPE} | {key: COMPUTE[key] for key in ("score_tokens", "sequences")}),
        seed=evaluation_seed,
    shell:
        "python workflow_scripts/evaluate.py --test-set {wildcards.test_set} --policy {input.policy} {params.trained} "
        "--eval-reward {input.eval_reward} --pairs {input.pairs} --candidates {input.candidates} "
        "--scored {input.scored} --reference {input.reference} {params.options} --truncated {params.truncated} "
        "--seed {params.seed} {params.compute} {params.toy} --out {output} > {log} 2>&1"
