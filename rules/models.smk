# Every role's model as a folder in results/<preset>/models; who uses one does not know where it came from.
ROLES = {role: source for role, source in CONFIG["models"].items() if role != "tokenizer"}


def roles_from(*sources):
    """A wildcard constraint: the roles whose model comes from one of these sources (none: matches nothing)."""
    return "|".join(role for role, given in ROLES.items() if given["source"] in sources) or "(?!)"


def model_options(*leave_out):
    """The role's entry of config key `models` as command-line options."""
    return lambda w: options(
        {key: value or None for key, value in ROLES[w.role].items()} if ROLES[w.role]["source"] == "hub" else ROLES[w.role],
        leave_out=leave_out,
    )


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
        options=options(CONFIG["models"].get("tokenizer", {})),
    shell:
        "python {SCRIPTS}/build_tokenizer.py --pairs {input} {params.options} --out {output} > {log} 2>&1"


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
    conda:
        "../envs/train.yaml"
    wildcard_constraints:
        role=roles_from("scratch"),
    params:
        options=model_options("source"),
    shell:
        "python {SCRIPTS}/pretrain.py --role {wildcards.role} --pairs {input.pairs} --tokenizer {input.tokenizer} "
        "{params.options} --out {output} > {log} 2>&1"


rule fetch_model:
    output:
        directory(f"{RESULTS}/models/{{role}}"),
    log:
        f"{LOGS}/models/{{role}}.log",
    conda:
        "../envs/train.yaml"
    wildcard_constraints:
        role=roles_from("hub", "path", "gguf"),
    params:
        options=model_options(),
        dtype=COMPUTE["dtype"],
    shell:
        "python {SCRIPTS}/fetch_model.py --role {wildcards.role} {params.options} --dtype {params.dtype} "
        "--out {output} > {log} 2>&1"


rule reward_model:
    input:
        base=lambda w: model(ROLES[w.role]["base"]),
        pairs=lambda w: expand(
            f"{RESULTS}/data/{{dataset}}/{{split}}.parquet", dataset=DATASETS, split=ROLES[w.role]["split"]
        ),
    output:
        directory(f"{RESULTS}/models/{{role}}"),
    log:
        f"{LOGS}/models/{{role}}.log",
    benchmark:
        f"{BENCHMARKS}/models/{{role}}.tsv"
    conda:
        "../envs/train.yaml"
    wildcard_constraints:
        role=roles_from("trained"),
    params:
        options=model_options("source", "base", "split"),
        dtype=COMPUTE["dtype"],
        max_length=CONFIG["training"]["max_length"],
    shell:
        "python {SCRIPTS}/train_reward_model.py --role {wildcards.role} --base {input.base} --pairs {input.pairs} "
        "{params.options} --dtype {params.dtype} --max-length {params.max_length} {TOY_FLAG} "
        "--out {output} > {log} 2>&1"
