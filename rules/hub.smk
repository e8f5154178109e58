# The hub: what is taken from there is pinned, and fetched where there is network; all other jobs run offline (hps/support/cli.py).
localrules:
    pin,
    fetch,


# Without an output, so it runs whenever it is asked for.
rule pin:
    log:
        f"{LOGS}/pin.log",
    conda:
        "../envs/data.yaml"
    params:
        wanted=shlex.quote(json.dumps([asdict(wanted) for wanted in hub_lock.wanted(CONFIG)])),
        lock=hub_lock.LOCK,
    shell:
        "python workflow_scripts/pin.py --wanted {params.wanted} --lock {params.lock} 2>&1 | tee {log}"


rule fetch:
    input:
        expand(f"{RESULTS}/data/{{dataset}}/counts.json", dataset=DATASETS),
        expand(f"{RESULTS}/audit/human_pairs/{{dataset}}", dataset=DATASETS),
        expand(f"{RESULTS}/published/{{name}}", name=PIPELINE.published),
        [model(role) for role, source in SOURCES.items() if source["source"] in ("hub", "path", "gguf")],
