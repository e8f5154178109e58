# The paper against itself, from paper/*.csv; and how long the test pairs are that its margins can be taken on.
rule audit:
    input:
        paper=PAPER_NUMBERS,
        candidates=[file for dataset in DATASETS for file in shards("candidates", dataset, "test")],
        scored=[file for dataset in DATASETS for file in shards("scored", dataset, "test")],
        reference=[file for dataset in DATASETS for file in shards("reference", dataset, "test")],
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
        truncated=CONFIG["candidates"]["truncated"],
        resamples=CONFIG["evaluation"]["resamples"],
        world=CONFIG["world"],
    shell:
        "python workflow_scripts/make_audit.py --test-sets {params.test_sets} --candidates {input.candidates} "
        "--scored {input.scored} --reference {input.reference} --truncated {params.truncated} "
        "--resamples {params.resamples} --world {params.world} --csv {output.csv} --gaps {output.gaps} "
        "--markdown {output.md} --html {output.html} --png {output.png} --svg {output.svg} > {log} 2>&1"
