# Theorems 1 to 3 on linear rewards with a known parameter. Needs no model and no data.
rule theory:
    output:
        **made("theory/theory", "4 Audit and theory", "csv", "md", "html", what="theorems"),
        **made("theory/theorems", "4 Audit and theory", "png", "svg", what="theorems, figure"),
    log:
        f"{LOGS}/theory.log",
    conda:
        "../envs/report.yaml"
    params:
        config=REPORTED.config("theory"),
        caption=(
            "The paper's three theorems where they can be computed exactly: linear rewards with a known parameter, no "
            "language model. Theorem 1: estimation error against prompts m and responses n, with fitted exponents; its "
            "bounds are n/√m for HPS and n²/√m for PL. Theorem 2: how far the HPS loss stays below the worst-case loss "
            "as γ grows. Theorem 3: the angle between the minimiser and the max-margin direction as the minimiser's norm "
            "grows. Bars: 95 % intervals over repetitions (Theorem 2: over prompts)."
        ),
        out=output_folder,
    shell:
        "python workflow_scripts/report.py theory --config {params.config} --out {params.out} > {log} 2>&1"
