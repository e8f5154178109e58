# The tables of hps/evidence/tables.py, ours beside the paper's.
rule table:
    input:
        unpack(table_input),
        paper=lambda w: [f"{evidence.FOLDER}/{SPECS[w.table].paper}"] if SPECS[w.table].paper else [],
    output:
        **made("tables/{table}", "2 Tables", *TABLE_KINDS, table="{table}"),
    log:
        f"{LOGS}/tables/{{table}}.log",
    wildcard_constraints:
        table="|".join(SPECS),
    conda:
        "../envs/report.yaml"
    params:
        made_from=table_options,
        config=lambda w: REPORTED.config("table", [SPECS[w.table]]),
        caption=lambda w: REPORTED.caption(f"{SPECS[w.table].caption} {BESIDE_THE_PAPERS}"),
        out=output_folder,
    shell:
        "python workflow_scripts/report.py table --name {wildcards.table} --config {params.config} {params.made_from} "
        "--out {params.out} > {log} 2>&1"
