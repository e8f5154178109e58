# The data: published files, or the toy world's, cut into splits that share no prompt.
if not PIPELINE.data_dir:

    localrules:
        download,


rule toy_data:
    output:
        expand(
            f"{RESULTS}/data/raw/{{name}}/{{part}}.jsonl.gz",
            name=["hh-rlhf/harmless-base", "pku-saferlhf"],
            part=["train", "test"],
        ),
    log:
        f"{LOGS}/toy_data.log",
    conda:
        "../envs/data.yaml"
    params:
        options=lambda w: PIPELINE.settings("toy_data"),
        out=lambda w, output: Path(output[0]).parents[2],
    shell:
        "python workflow_scripts/toy_data.py {params.options} --out {params.out} > {log} 2>&1"


rule download:
    input:
        train=lambda w: PIPELINE.data_files(w.dataset, "train"),
        test=lambda w: PIPELINE.data_files(w.dataset, "test"),
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
        source=lambda w: PIPELINE.data_source(w.dataset),
        pinned=pinned_data,
        lock=lock_option(pinned_data),
        splits=PIPELINE.settings("download"),
        seed=CONFIG["data_seed"],
        out=lambda w, output: Path(output.counts).parent,
    shell:
        "python workflow_scripts/download.py --dataset {wildcards.dataset} {params.source} {params.lock} {params.splits} "
        "--seed {params.seed} --out {params.out} > {log} 2>&1"
