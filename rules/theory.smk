# Theorems 1 to 3 on linear rewards with a known parameter. Needs no model and no data.
rule theory:
    output:
        csv=f"{RESULTS}/theory/theory.csv",
        md=f"{RESULTS}/theory/theory.md",
        html=report(
            f"{RESULTS}/theory/theory.html",
            caption="../report/theory.rst",
            category="4 Audit and theory",
            labels={"what": "theorems"},
        ),
        png=f"{RESULTS}/theory/theorems.png",
        svg=report(
            f"{RESULTS}/theory/theorems.svg",
            caption="../report/theory.rst",
            category="4 Audit and theory",
            labels={"what": "theorems, figure"},
        ),
    log:
        f"{LOGS}/theory.log",
    conda:
        "../envs/report.yaml"
    params:
        options=options(CONFIG["theory"]),
    shell:
        "python workflow_scripts/make_theory.py {params.options} --csv {output.csv} --markdown {output.md} "
        "--html {output.html} --png {output.png} --svg {output.svg} > {log} 2>&1"
