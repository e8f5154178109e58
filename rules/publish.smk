# A run on the hub: its policies with a model card each, its tables and its report, in one commit.
localrules:
    publication,
    publish,


rule publication:
    input:
        config=rules.configuration.output,
        policy=model("policy"),
        counts=expand(f"{RESULTS}/data/{{dataset}}/counts.json", dataset=DATASETS),
        policies=expand(f"{RESULTS}/runs/{{run}}/policy", run=RUN_OF),
        trainings=expand(f"{RESULTS}/runs/{{run}}/training.json", run=RUN_OF),
        tables=[table(name) for name in TABLE_NAMES],
        report=rules.report.output,
    output:
        directory(f"{RESULTS}/publication"),
    log:
        f"{LOGS}/publication.log",
    conda:
        "../envs/data.yaml"
    params:
        told=PIPELINE.cost("publication"),
        trainings=expand(f"{RESULTS}/runs/{{run}}", run=RUN_OF),
        tables=expand(f"{RESULTS}/tables/{{name}}.csv", name=TABLE_NAMES),
    shell:
        "python workflow_scripts/publication.py {params.told} --config {input.config} --policy {input.policy} "
        "--counts {input.counts} --trainings {params.trainings} --tables {params.tables} --report {input.report} "
        "--out {output} > {log} 2>&1"


# Without an output, so it runs whenever it is asked for. What the hub has already is not sent again.
rule publish:
    input:
        to_publish,
    log:
        f"{LOGS}/publish.log",
    conda:
        "../envs/data.yaml"
    params:
        told=PIPELINE.cost("publish"),
    shell:
        "python workflow_scripts/publish.py {params.told} --folder {input} 2>&1 | tee {log}"
