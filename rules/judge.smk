# Table 4 (App. D.3): responses of the judged method against those of its baselines. One job asks for all of it, so that
# the limits on requests hold for all of it; answers outlive the job in a folder that is no output.
rule judge:
    input:
        methods=lambda w: list(dict.fromkeys(str(Path(folder).parent) for folder in judge_policies(0))),
        baselines=lambda w: list(dict.fromkeys(str(Path(folder).parent) for folder in judge_policies(1))),
        pairs=expand(f"{RESULTS}/data/{{dataset}}/test.parquet", dataset=DATASETS),
    output:
        directory(f"{RESULTS}/judge"),
    log:
        f"{LOGS}/judge.log",
    benchmark:
        f"{BENCHMARKS}/judge.tsv"
    conda:
        "../envs/judge.yaml"
    resources:
        cost=PIPELINE.cost("judge"),
    params:
        test_sets=DATASETS,
        methods=lambda w: judge_policies(0),
        baselines=lambda w: judge_policies(1),
        options=PIPELINE.settings("judge"),
        # Its path alone: another pin must not ask for a judgement anew that is there, of a server that is gone.
        lock=options({"lock": hub_lock.LOCK if CONFIG["judge"]["hub"] else None}),
        model=lambda w: shlex.quote(judge_model()),
        seed=CONFIG["data_seed"],
        cache=f"{RESULTS}/judge_cache",
    shell:
        "python workflow_scripts/judge.py --test-sets {params.test_sets} --pairs {input.pairs} "
        "--methods {params.methods} --baselines {params.baselines} {params.options} {params.lock} {resources.cost} "
        "--seed {params.seed} --cache {params.cache} --out {output} > {log} 2>&1"
