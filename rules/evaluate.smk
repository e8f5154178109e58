# Each policy on the test prompts of its own data set (fine-tuning, Sec. 6.1) and of others (transfer, Sec. 6.2).
# A rule's outputs cannot depend on a wildcard, so where jobs evaluate several policies each job is a rule of its own.
for job, policies in PIPELINE.evaluation_jobs.items():

    rule:
        name:
            job
        input:
            unpack(evaluated(policies)),
            policy=model("policy"),
            eval_reward=model("eval_reward"),
            harm=[model("harm")] if "harm" in ROLES else [],
        output:
            [directory(f"{RESULTS}/evaluations/{policy}") for policy in policies],
        log:
            f"{LOGS}/evaluate/{evaluation_file(job)}.log",
        benchmark:
            f"{BENCHMARKS}/evaluate/{evaluation_file(job)}.tsv"
        conda:
            generation_env("evaluate")
        resources:
            cost=PIPELINE.cost("evaluate"),
        params:
            test_sets=tested(policies),
            policies=lambda w, own=policies: [policy_option(policy.format(**w)) for policy in own],
            settings=PIPELINE.settings("evaluate"),
            harm=lambda w, input: options({"harm": input.harm or None}),
            toy=TOY_FLAG,
        shell:
            "python workflow_scripts/evaluate.py --test-sets {params.test_sets} --pairs {input.pairs} "
            "--examples {input.examples} --policy {input.policy} --eval-reward {input.eval_reward} "
            "{params.harm} --policies {params.policies} {params.settings} {resources.cost} {params.toy} > {log} 2>&1"
