# HPS-Replica: the experiments of "HPS: Hard Preference Sampling for Human Preference Alignment" (arXiv 2502.14400v5).
#
#   snakemake --cores 2 all                 everything, at the preset of config.yaml
#   snakemake --cores 2 table2              one table and what it needs
#   snakemake --profile slurm all           on a SLURM cluster (slurm/config.yaml, docs/cluster.md)
#   snakemake --cores 1 pin                 the commits of the hub's repositories, to config/hub.lock.yaml
#   snakemake --cores 1 fetch               all models and data, nothing else
#   snakemake --cores 1 publish             policies, tables and report to a repository of yours on the hub
#
# download -> augment -> annotate -> reference -> examples -> train -> evaluate -> tables -> figures -> report
from snakemake.utils import min_version

min_version("9.0")


include: "rules/common.smk"
include: "rules/common_tables.smk"


if CONFIG["container"]:

    container: CONFIG["container"]


include: "rules/download.smk"
include: "rules/models.smk"
include: "rules/hub.smk"
include: "rules/augment.smk"
include: "rules/annotate.smk"
include: "rules/reference.smk"
include: "rules/examples.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/judge.smk"
include: "rules/user_study.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/audit.smk"
include: "rules/theory.smk"
include: "rules/claims.smk"
include: "rules/answers.smk"
include: "rules/report.smk"
include: "rules/plan.smk"
include: "rules/publish.smk"


report: "report/workflow.rst"


# What takes seconds is no job of its own on a cluster.
localrules:
    all,
    toy_data,
    download,
    tokenizer,
    fetch_model,
    table,
    user_study,
    simulate_ratings,
    figure,
    training_curves,
    human_pairs,
    human_lengths,
    audit,
    theory,
    claims,
    answers,
    cost,
    configuration,
    overview,
    report_contents,
    report,


rule all:
    default_target: True
    input:
        rules.report.output,


onstart:
    for warning in warnings():
        logger.warning(warning)
    jobs.start_at_once(workflow)
    if COMPUTE["warm_jobs"] and jobs.can_be_warm(workflow):
        jobs.warm()
    if not (workflow.output_settings.printshellcmds or workflow.output_settings.verbose):
        terminal.show_lines(logger)


# A target a table, with what it needs. A table that is left out keeps its target, which says why.
for name in REPORTED.known:

    rule:
        name:
            name
        input:
            target_table(name),
        localrule: True


rule figures:
    input:
        all_figures(),
    localrule: True
