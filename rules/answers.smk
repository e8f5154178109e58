# Read the answers: those of all methods to the same prompts, side by side.
rule answers:
    input:
        policies=list(dict.fromkeys(str(Path(folder).parent) for folder in answer_evaluations())),
        pairs=expand(f"{RESULTS}/data/{{dataset}}/test.parquet", dataset=DATASETS),
    output:
        **made("answers/answers", "6 Answers", "html", what="read the answers"),
    log:
        f"{LOGS}/answers.log",
    conda:
        "../envs/report.yaml"
    params:
        test_sets=DATASETS,
        methods=ANSWERING,
        evaluations=answer_evaluations(),
        config=REPORTED.config("answers"),
        caption=REPORTED.caption(
            "The answers of the SFT policy and of each loss to the same test prompts, side by side with their scores, with a "
            "search and a filter. The page needs nothing else: it can be saved and opened anywhere.",
            what="Answers",
        ),
        out=output_folder,
    shell:
        "python workflow_scripts/report.py answers --config {params.config} --test-sets {params.test_sets} "
        "--pairs {input.pairs} --methods {params.methods} --evaluations {params.evaluations} --out {params.out} "
        "> {log} 2>&1"
