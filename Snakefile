# HPS-Replica: the experiments of "HPS: Hard Preference Sampling for Human Preference Alignment" (arXiv 2502.14400v5).
#
#   snakemake --cores 2 all                 everything, at the preset of config.yaml
#   snakemake --cores 2 table2              one table and what it needs
#   snakemake --profile slurm all           on a SLURM cluster (slurm/config.yaml, docs/cluster.md)
#
# download -> augment -> annotate -> reference -> train -> evaluate -> tables -> figures -> report
from snakemake.utils import min_version

min_version("9.0")


configfile: "config.yaml"


include: "rules/common.smk"
include: "rules/download.smk"
include: "rules/models.smk"
include: "rules/augment.smk"
include: "rules/annotate.smk"
include: "rules/reference.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/report.smk"


report: "report/workflow.rst"


# What takes seconds is no job of its own on a cluster.
localrules:
    all,
    toy_data,
    download,
    tokenizer,
    fetch_model,
    table,
    make_training_time,
    figure,
    training_curves,
    configuration,
    overview,
    report_contents,
    report,


rule all:
    default_target: True
    input:
        rules.report.output,


# Targets table2, table5, table6, table7, table8 and training_time: one table each, with what it needs.
for name in TABLE_NAMES:

    rule:
        name:
            name
        input:
            table(name),
        localrule: True


rule figures:
    input:
        all_figures(),
    localrule: True
