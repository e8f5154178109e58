# The data: published files, or the toy world's, cut into splits that share no prompt.
TOY_FILES = f"{RESULTS}/data/raw"
DATA_DIR = TOY_FILES if TOY else hps_config.data_dir(CONFIG)


def data_files(dataset, part):
    """Paths of a data set's files for `train` or `test`; none when it comes from the hub."""
    files = CONFIG["data"][dataset]["files"][part] if DATA_DIR else []
    return [f"{DATA_DIR}/{file}" for file in files]


def data_source(wildcards):
    """Command-line options that say where a data set comes from."""
    source = CONFIG["data"][wildcards.dataset]
    given = {"format": source["format"], "label": source.get("label")}
    if DATA_DIR:
        for part in ("train", "test"):
            if data_files(wildcards.dataset, part):
                given[f"{part}_files"] = data_files(wildcards.dataset, part)
    else:
        given |= {"hub": source["hub"], "hub_data_dirs": source.get("hub_data_dirs")}
    return options(given)


def data_splits():
    """Command-line options for the size and source of each split."""
    sizes = {}
    for split, wanted in CONFIG["data"]["splits"].items():
        sizes |= {split: wanted["prompts"], f"{split}_from": wanted["from"]}
    return options(sizes)


if not DATA_DIR:

    localrules:
        download,


rule toy_data:
    output:
        expand(f"{TOY_FILES}/{{name}}/{{part}}.jsonl.gz", name=["hh-rlhf/harmless-base", "pku-saferlhf"], part=["train", "test"]),
    log:
        f"{LOGS}/toy_data.log",
    conda:
        "../envs/data.yaml"
    params:
        options=options(CONFIG.values.get("toy", {})),
        out=TOY_FILES,
    shell:
        "python {SCRIPTS}/make_toy_data.py {params.options} --out {params.out} > {log} 2>&1"


rule download:
    input:
        train=lambda w: data_files(w.dataset, "train"),
        test=lambda w: data_files(w.dataset, "test"),
    output:
        expand(
            f"{RESULTS}/data/{{{{dataset}}}}/{{split}}.parquet",
            split=["train", "test", "reward", "eval_reward", "sft"],
        ),
        counts=f"{RESULTS}/data/{{dataset}}/counts.json",
    log:
        f"{LOGS}/download/{{dataset}}.log",
    conda:
        "../envs/data.yaml"
    params:
        source=data_source,
        splits=data_splits(),
        limits=options(CONFIG["data"], leave_out=("splits", *DATASETS)),
        seed=CONFIG["data_seed"],
        out=lambda w, output: Path(output.counts).parent,
    shell:
        "python {SCRIPTS}/download.py --dataset {wildcards.dataset} {params.source} {params.splits} {params.limits} "
        "--seed {params.seed} --out {params.out} > {log} 2>&1"
