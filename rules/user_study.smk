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
        "../envs/study.yaml"
    params:
        test_sets=DATASETS,
        methods=lambda w: STUDY_METHODS,
        evaluations=lambda w: study_evaluations(),
        options=options({key: CONFIG["user_study"][key] for key in ("prompts", "raters")}),
        seed=CONFIG["data_seed"],
    shell:
        "python workflow_scripts/make_user_study.py --test-sets {params.test_sets} --pairs {input.pairs} "
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
        "../envs/study.yaml"
    params:
        evaluations=lambda w: study_evaluations(),
        seed=CONFIG["data_seed"],
    shell:
        "python workflow_scripts/simulate_ratings.py --key {input.study}/key.json --evaluations {params.evaluations} "
        "--seed {params.seed} --out {output} > {log} 2>&1"


rule human_table:
    input:
        unpack(study_ratings),
        paper="paper/table3_human.csv",
    output:
        csv=f"{RESULTS}/tables/table3.csv",
        md=f"{RESULTS}/tables/table3.md",
        html=report(
            f"{RESULTS}/tables/table3.html",
            caption="../report/human.rst",
            category="2 Tables",
            labels={"table": "table3"},
        ),
    log:
        f"{LOGS}/tables/table3.log",
    conda:
        "../envs/study.yaml"
    params:
        key=lambda w, input: f"{input.study}/key.json" if "study" in input.keys() else input.key,
        ratings=lambda w, input: study_files(input),
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_human_table.py --key {params.key} {params.ratings} --paper {input.paper} "
        "--world {params.world} "
        "--csv {output.csv} --markdown {output.md} --html {output.html} > {log} 2>&1"
