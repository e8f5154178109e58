# The paper against itself, from paper/*.csv; and how long the test pairs are that its margins can be taken on.
# Human pairs: all that the test prompts are drawn from, however few prompts a preset tests on and whatever lengths it
# leaves out. They cost no generation.
rule human_pairs:
    input:
        lambda w: data_files(w.dataset, CONFIG["data"]["splits"]["test"]["from"]),
    output:
        directory(f"{RESULTS}/audit/human_pairs/{{dataset}}"),
    log:
        f"{LOGS}/audit/human_pairs.{{dataset}}.log",
    conda:
        "../envs/data.yaml"
    params:
        source=data_source,
        pinned=pinned_data,
        lock=lock_option(pinned_data),
        part=CONFIG["data"]["splits"]["test"]["from"],
    shell:
        "python workflow_scripts/download.py --dataset {wildcards.dataset} {params.source} {params.lock} "
        "--test -1 --test-from {params.part} --out {output} > {log} 2>&1"


rule human_lengths:
    input:
        pairs=rules.human_pairs.output,
        policy=model("policy"),
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
        csv=f"{RESULTS}/audit/audit.csv",
        gaps=f"{RESULTS}/audit/length_gaps.csv",
        md=f"{RESULTS}/audit/audit.md",
        html=report(
            f"{RESULTS}/audit/audit.html",
            caption="../report/audit.rst",
            category="4 Audit and theory",
            labels={"what": "checks"},
        ),
        png=f"{RESULTS}/audit/length_gaps.png",
        svg=report(
            f"{RESULTS}/audit/length_gaps.svg",
            caption="../report/audit.rst",
            category="4 Audit and theory",
            labels={"what": "implied length gaps"},
        ),
    log:
        f"{LOGS}/audit.log",
    conda:
        "../envs/report.yaml"
    params:
        test_sets=DATASETS,
        annotated=lambda w: annotated_sets(),
        truncated=CONFIG["candidates"]["truncated"],
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_audit.py --test-sets {params.test_sets} --human {input.human} "
        "--annotated-sets {params.annotated} --candidates {input.candidates} --scored {input.scored} "
        "--reference {input.reference} --truncated {params.truncated} "
        "--world {params.world} --csv {output.csv} --gaps {output.gaps} --markdown {output.md} --html {output.html} "
        "--png {output.png} --svg {output.svg} > {log} 2>&1"
