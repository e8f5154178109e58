# Table 3 (App. D.2): pages for raters, and the table from what they return. Only user_study/pages/ is handed out.
rule user_study:
    input:
        policies=lambda w: list(dict.fromkeys(str(Path(folder).parent) for folder in study_evaluations())),
        pairs=expand(f"{RESULTS}/data/{{dataset}}/test.parquet", dataset=DATASETS),
    output:
        directory(f"{RESULTS}/user_study"),
    log:
        f"{LOGS}/user_study.log",
    conda:
        "../envs/report.yaml"
    params:
        test_sets=DATASETS,
        methods=lambda w: STUDY_METHODS,
        evaluations=lambda w: study_evaluations(),
        options=PIPELINE.settings("user_study"),
        seed=CONFIG["data_seed"],
    shell:
        "python workflow_scripts/user_study.py --test-sets {params.test_sets} --pairs {input.pairs} "
        "--methods {params.methods} --evaluations {params.evaluations} {params.options} --seed {params.seed} "
        "--out {output} > {log} 2>&1"


rule simulate_ratings:
    input:
        study=rules.user_study.output,
        policies=rules.user_study.input.policies,
    output:
        directory(f"{RESULTS}/simulated_ratings"),
    log:
        f"{LOGS}/simulate_ratings.log",
    conda:
        "../envs/report.yaml"
    params:
        evaluations=lambda w: study_evaluations(),
        seed=CONFIG["data_seed"],
    shell:
        "python workflow_scripts/simulate_ratings.py --key {input.study}/key.json --evaluations {params.evaluations} "
        "--seed {params.seed} --out {output} > {log} 2>&1"
