# Each claim of the paper (paper/claims.yaml), on the paper's own numbers and on ours.
rule claims:
    input:
        claims="paper/claims.yaml",
        schema="paper/claims.schema.yaml",
        paper=PAPER_NUMBERS,
        policies=[f"{RESULTS}/evaluations/{policy}" for policy in CLAIMS_POLICIES],
        trainings=expand(f"{RESULTS}/runs/{{run}}/training.json", run=CLAIMS_POLICIES[1:]),
        tables=CLAIMS_TABLES,
    output:
        csv=f"{RESULTS}/claims/claims.csv",
        json=f"{RESULTS}/claims/claims.json",
        md=f"{RESULTS}/claims/claims.md",
        html=report(
            f"{RESULTS}/claims/claims.html",
            caption="../report/claims.rst",
            category="1 Claims",
            labels={"what": "claims and every comparison"},
        ),
        fragment=f"{RESULTS}/claims/list.html",
    log:
        f"{LOGS}/claims.log",
    conda:
        "../envs/report.yaml"
    params:
        evaluations=[
            f"{RESULTS}/evaluations/{policy}/{test_set}"
            for policy in CLAIMS_POLICIES
            for test_set in test_sets(policy)
        ],
        trainings=expand(f"{RESULTS}/runs/{{run}}", run=CLAIMS_POLICIES[1:]),
        tables=options({"tables": CLAIMS_TABLES}),
        options=options({key: CONFIG["evaluation"][key] for key in ("bleu", "margin_pair")} | CONFIG["claims"]),
        grid_n=CONFIG["grid"]["n"],
        beta=CONFIG["objective"]["beta"],
        dataset=CONFIG["ablations"]["dataset"],
        world=CONFIG["world"],
        reward_scale="log_odds" if CONFIG["models"]["eval_reward"]["source"] == "trained" else "paper",
    shell:
        "python workflow_scripts/make_claims.py --claims {input.claims} --schema {input.schema} --paper paper "
        "--evaluations {params.evaluations} --trainings {params.trainings} {params.tables} "
        "--grid-n {params.grid_n} --beta {params.beta} --ablation-dataset {params.dataset} {params.options} "
        "--reward-scale {params.reward_scale} --world {params.world} --csv {output.csv} --json {output.json} --markdown {output.md} --html {output.html} "
        "--fragment {output.fragment} > {log} 2>&1"
