# The paper against itself, from paper/*.csv; and how long the test pairs are that its margins can be taken on.
# Human pairs: all that the test prompts are drawn from, however few prompts a preset tests on and whatever lengths it
# leaves out. They cost no generation.
rule human_pairs:
    input:
        lambda w: PIPELINE.data_files(w.dataset, CONFIG["data"]["splits"]["test"]["from"]),
    output:
        directory(f"{RESULTS}/audit/human_pairs/{{dataset}}"),
    log:
        f"{LOGS}/audit/human_pairs.{{dataset}}.log",
    conda:
        "../envs/data.yaml"
    params:
        source=lambda w: PIPELINE.data_source(w.dataset),
        pinned=pinned_data,
        lock=lock_option(pinned_data),
        part=CONFIG["data"]["splits"]["test"]["from"],
    shell:
        "python workflow_scripts/download.py --dataset {wildcards.dataset} {params.source} {params.lock} "
        "--test-prompts -1 --test-from {params.part} --out {output} > {log} 2>&1"


rule human_lengths:
    input:
        pairs=rules.human_pairs.output,
        policy=PIPELINE.tokenizer,
    output:
        f"{RESULTS}/audit/human_lengths/{{dataset}}.parquet",
    log:
        f"{LOGS}/audit/human_lengths.{{dataset}}.log",
    conda:
        "../envs/score.yaml"
    shell:
        "python workflow_scripts/measure_lengths.py --pairs {input.pairs}/test.parquet --policy {input.policy} "
        "--out {output} > {log} 2>&1"


rule audit:
    input:
        paper=PAPER_NUMBERS,
        human=expand(rules.human_lengths.output, dataset=DATASETS),
        candidates=annotated_files("candidates"),
        scored=annotated_files("scored"),
        reference=annotated_files("reference"),
    output:
        **made("audit/audit", "4 Audit and theory", "csv", "md", "html", what="checks"),
        **made("audit/length_gaps", "4 Audit and theory", "png", "svg", what="implied length gaps"),
        gaps=f"{RESULTS}/audit/length_gaps.csv",
    log:
        f"{LOGS}/audit.log",
    conda:
        "../envs/report.yaml"
    params:
        test_sets=DATASETS,
        annotated=lambda w: annotated_sets(),
        config=REPORTED.config("audit"),
        caption=REPORTED.caption(
            "What the paper's printed numbers say about each other. Foremost: RM_R-DPO is defined as RM_DPO minus 0.01 "
            "times the difference in length between the two responses of a test pair. The difference between the two "
            "margins is thus a property of the test set and the same for every model. In the figure each hollow marker "
            "is the length gap that one row of the paper implies; the dashed line is the most frequent one. Black bars "
            "are mean gaps measured in this run, with 95 % intervals over prompts: of the human pairs of the whole test "
            "data, and of the annotated pairs of this run's test prompts.",
            what="The measured pairs are those",
        ),
        out=output_folder,
    shell:
        "python workflow_scripts/report.py audit --config {params.config} --test-sets {params.test_sets} "
        "--human {input.human} --annotated-sets {params.annotated} --candidates {input.candidates} "
        "--scored {input.scored} --reference {input.reference} --out {params.out} > {log} 2>&1"
