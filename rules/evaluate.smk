# Each policy on the test prompts of its own data set (fine-tuning, Sec. 6.1) and of others (transfer, Sec. 6.2).
rule evaluate:
    input:
        unpack(trained),
        policy=model("policy"),
        eval_reward=model("eval_reward"),
        harm=[model("harm")] if "harm" in ROLES else [],
        pairs=lambda w: expand(f"{RESULTS}/data/{{test_set}}/test.parquet", test_set=test_sets(w.policy)),
        examples=lambda w: expand(f"{RESULTS}/examples/{{test_set}}/test", test_set=test_sets(w.policy)),
    output:
        directory(f"{RESULTS}/evaluations/{{policy}}"),
    log:
        f"{LOGS}/evaluate/{{policy}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{policy}}.tsv"
    conda:
        generation_env("evaluate")
    resources:
        cost=PIPELINE.cost("evaluate"),
    params:
        test_sets=lambda w: test_sets(w.policy),
        trained=lambda w, input: options({key: input[key] for key in ("trained", "training") if key in input.keys()}),
        settings=lambda w: PIPELINE.settings("evaluate", RUN_OF.get(w.policy)),
        harm=lambda w, input: options({"harm": input.harm or None}),
        seed=lambda w: PIPELINE.evaluation_seed(w.policy),
        toy=TOY_FLAG,
    shell:
        "python workflow_scripts/evaluate.py --test-sets {params.test_sets} --policy {input.policy} {params.trained} "
        "--eval-reward {input.eval_reward} {params.harm} --pairs {input.pairs} --examples {input.examples} "
        "{params.settings} {resources.cost} --seed {params.seed} {params.toy} --out {output} > {log} 2>&1"
