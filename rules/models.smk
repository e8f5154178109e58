# Every role's model as a folder in results/<name>/models; who uses one does not know where it came from.
rule tokenizer:
    input:
        expand(f"{RESULTS}/data/{{dataset}}/sft.parquet", dataset=DATASETS),
    output:
        directory(f"{RESULTS}/models/tokenizer"),
    log:
        f"{LOGS}/models/tokenizer.log",
    conda:
        "../envs/train.yaml"
    params:
        options=lambda w: PIPELINE.settings("build_tokenizer"),
    shell:
        "python workflow_scripts/build_tokenizer.py --pairs {input} {params.options} --out {output} > {log} 2>&1"


rule scratch_model:
    input:
        pairs=expand(f"{RESULTS}/data/{{dataset}}/sft.parquet", dataset=DATASETS),
        tokenizer=rules.tokenizer.output,
    output:
        directory(f"{RESULTS}/models/{{role}}"),
    log:
        f"{LOGS}/models/{{role}}.log",
    benchmark:
        f"{BENCHMARKS}/models/{{role}}.tsv"
    wildcard_constraints:
        role=PIPELINE.roles_from("scratch"),
    conda:
        "../envs/train.yaml"
    params:
        options=lambda w: PIPELINE.settings("pretrain", entry=SOURCES[w.role]),
    shell:
        "python workflow_scripts/pretrain.py --role {wildcards.role} --pairs {input.pairs} --tokenizer {input.tokenizer} "
        "{params.options} --out {output} > {log} 2>&1"


localrules:
    fetch_model,
    fetch_published,


rule fetch_model:
    output:
        directory(f"{RESULTS}/models/{{role}}"),
    log:
        f"{LOGS}/models/{{role}}.log",
    wildcard_constraints:
        role=PIPELINE.roles_from("hub", "path", "gguf"),
    conda:
        "../envs/train.yaml"
    # What no adapter can go to is said here, before anything is generated for it. It makes no other model.
    resources:
        targets=lambda w: PIPELINE.targets(w.role),
    params:
        options=lambda w: PIPELINE.settings("fetch_model", entry=SOURCES[w.role]),
        pinned=pinned_model,
        state=lambda w: PIPELINE.model_state(w.role),
        lock=lock_option(pinned_model),
    shell:
        "python workflow_scripts/fetch_model.py --role {wildcards.role} {params.options} {params.lock} "
        "{resources.targets} --out {output} > {log} 2>&1"


# A policy that others trained. What cannot be compared with the policy is refused here, before anything is sampled.
rule fetch_published:
    input:
        policy=model("policy"),
    output:
        directory(f"{RESULTS}/published/{{name}}"),
    log:
        f"{LOGS}/published/{{name}}.log",
    wildcard_constraints:
        name="|".join(map(re.escape, PIPELINE.published)) or "(?!)",
    conda:
        "../envs/train.yaml"
    params:
        options=lambda w: PIPELINE.settings("fetch_published", entry=PIPELINE.published[w.name]),
        pinned=pinned_published,
        lock=lock_option(pinned_published),
    shell:
        "python workflow_scripts/fetch_published.py {params.options} --policy {input.policy} {params.lock} "
        "--out {output} > {log} 2>&1"


REWARD_MODEL = {"trained": "train_reward_model", "probe": "fit_probe"}


rule reward_model:
    input:
        base=lambda w: model(ROLES[w.role]["base"]),
        pairs=lambda w: expand(
            f"{RESULTS}/data/{{dataset}}/{{split}}.parquet",
            dataset=DATASETS,
            split=hps_config.pair_splits(ROLES[w.role]),
        ),
    output:
        directory(f"{RESULTS}/models/{{role}}"),
    log:
        f"{LOGS}/models/{{role}}.log",
    benchmark:
        f"{BENCHMARKS}/models/{{role}}.tsv"
    wildcard_constraints:
        role=PIPELINE.roles_from("trained", "probe"),
    conda:
        "../envs/train.yaml"
    params:
        command=lambda w: REWARD_MODEL[ROLES[w.role]["source"]],
        options=lambda w: PIPELINE.settings(REWARD_MODEL[ROLES[w.role]["source"]], entry=ROLES[w.role]),
        toy=TOY_FLAG,
    shell:
        "python workflow_scripts/{params.command}.py --role {wildcards.role} --base {input.base} --pairs {input.pairs} "
        "{params.options} {params.toy} --out {output} > {log} 2>&1"
