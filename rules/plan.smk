# What the run will cost, printed; nothing is computed. Always runs: it has no output that could be up to date.
rule plan:
    log:
        f"{LOGS}/plan.log",
    localrule: True
    conda:
        "../envs/report.yaml"
    params:
        given=shlex.quote(json.dumps(GIVEN)),
        results=RESULTS,
    shell:
        "python workflow_scripts/plan.py --given {params.given} --results {params.results} "
        "--profile slurm/config.yaml --out {params.results}/plan 2> {log} || (cat {log} >&2; exit 1)"
