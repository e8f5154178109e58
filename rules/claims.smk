# Each claim of the paper (paper/claims.yaml), on the paper's own numbers and on ours.
rule claims:
    input:
        claims=expand("paper/claims.{kind}", kind=["yaml", "schema.yaml"]),
        paper=PAPER_NUMBERS,
        policies=[f"{RESULTS}/evaluations/{policy}" for policy in CLAIMS_POLICIES],
        trainings=expand(f"{RESULTS}/runs/{{run}}/training.json", run=REPORTED.claimed),
        tables=CLAIMS_TABLES,
    output:
        **made("claims/claims", "1 Claims", "csv", "json", "md", "html", what="claims and every comparison"),
        fragments=[f"{RESULTS}/claims/{name}.html" for name in ("sentences", "list")],
    log:
        f"{LOGS}/claims.log",
    conda:
        "../envs/report.yaml"
    params:
        made_from=options(
            {
                "evaluations": [
                    f"{RESULTS}/evaluations/{policy}/{test_set}"
                    for policy in CLAIMS_POLICIES
                    for test_set in test_sets(policy)
                ],
                "trainings": expand(f"{RESULTS}/runs/{{run}}", run=REPORTED.claimed),
                "tables": CLAIMS_TABLES,
            }
        ),
        config=REPORTED.config("claims"),
        caption=REPORTED.caption(
            "Each claim of the paper as a statement about its tables, evaluated on the paper's own numbers as printed "
            "and on ours, and below the list every comparison behind it. A claim without enough numbers is open."
        ),
        out=output_folder,
    shell:
        "python workflow_scripts/report.py claims --config {params.config} {params.made_from} --out {params.out} "
        "> {log} 2>&1"
