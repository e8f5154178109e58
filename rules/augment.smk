# Sec. 6: n responses a prompt by the generator, at temperature 0.9; beside them, the two human responses.
rule augment:
    input:
        pairs=f"{RESULTS}/data/{{dataset}}/{{split}}.parquet",
        generator=model("generator"),
        # Only their chat templates count, so another reward model leaves what was generated as it is; for the same
        # reason `rewards.system_turn` is no parameter.
        policy=ancient(PIPELINE.models_from_elsewhere("policy")),
        rewards=ancient(PIPELINE.models_from_elsewhere("reward", "eval_reward", "harm")),
    output:
        candidates=f"{RESULTS}/candidates/{{dataset}}/{{split}}.{{scatteritem}}.parquet",
        stats=f"{RESULTS}/candidates/{{dataset}}/{{split}}.{{scatteritem}}.json",
    log:
        f"{LOGS}/augment/{{dataset}}.{{split}}.{{scatteritem}}.log",
    benchmark:
        f"{BENCHMARKS}/augment/{{dataset}}.{{split}}.{{scatteritem}}.tsv"
    conda:
        generation_env("generate")
    resources:
        cost=PIPELINE.cost("augment"),
        # For a check of the prompts alone: it changes no response.
        system_turn=CONFIG["rewards"]["system_turn"],
    params:
        n=lambda w: PIPELINE.candidates(w.dataset, w.split),
        settings=PIPELINE.settings("augment"),
        seed=CONFIG["data_seed"],
    shell:
        "python workflow_scripts/augment.py --pairs {input.pairs} --generator {input.generator} "
        "--readers {input.policy:q} --reward-readers {input.rewards:q} "
        "--reward-system-turn {resources.system_turn} "
        "--shard {wildcards.scatteritem} --n {params.n} {params.settings} {resources.cost} --seed {params.seed} "
        "--out {output.candidates} --stats {output.stats} > {log} 2>&1"
