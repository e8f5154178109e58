"""Run the cut-down DAG with each rule in a fresh environment of nothing but its envs/*.yaml: does each file suffice?

    python tests/envs/run.py

For every environment that a rule of tests/smoke.yaml's DAG names, a virtual environment is made from the file's pip
part (torch first: a range, or another package's wish, can pull gigabytes of CUDA builds). Then rule after rule runs, in
the order of the DAG, with its environment's commands first in PATH; Snakemake itself is the caller's. Environments that
no such rule uses are named and left out: vllm needs a GPU (`make test-vllm` tests vLLM on CPUs).
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from graphlib import TopologicalSorter
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import ROOT, copied_checkout

TARGET = ["all", "--configfile", "tests/smoke.yaml"]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="hps-envs-") as folder:
        checkout = copied_checkout(Path(folder) / "checkout")
        order, named = rules_in_order(checkout), environments()
        used = list(dict.fromkeys(named[rule] for rule in order if rule in named))
        for env in sorted(path.stem for path in (ROOT / "envs").glob("*.yaml")):
            if env not in used:
                print(f"SKIPPED envs/{env}.yaml: no rule of the cut-down DAG uses it", flush=True)
        for rule in sorted(named.keys() - set(order)):
            print(f"NOT RUN rule {rule} (envs/{named[rule]}.yaml): not in the cut-down DAG", flush=True)
        for env in used:
            start = time.monotonic()
            make_environment(env, Path(folder) / env)
            print(f"made    {env} in {time.monotonic() - start:.0f} s", flush=True)
        for rule in order:
            if rule in named:
                start = time.monotonic()
                run(rule, checkout, Path(folder) / named[rule])
                print(f"ran     {rule} in {named[rule]}, {time.monotonic() - start:.0f} s", flush=True)
        assert (checkout / "results/tiny/report.html").is_file()
    print(f"{len(used)} environments suffice for their rules")


def environments() -> dict[str, str]:
    """The environment of each rule that has one, as the rule files say."""
    named = {}
    for path in sorted((ROOT / "rules").glob("*.smk")):
        for text in re.split(r"^rule ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
            name = re.match(r"\w+", text)[0]
            if found := re.search(r'conda:\s+(?:"../envs/(\w+).yaml"|generation_env\("(\w+)"\))', text):
                named[name] = found[1] or found[2]
    return named


def rules_in_order(checkout: Path) -> list[str]:
    """The rules of the DAG, each after those it needs."""
    graph = snakemake(checkout, ["--rulegraph"], {}).stdout
    names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    sorter = TopologicalSorter({number: [] for number in names})
    for before, after in re.findall(r"(\d+) -> (\d+)", graph):
        sorter.add(after, before)
    return [names[number] for number in sorter.static_order()]


def make_environment(env: str, folder: Path) -> None:
    """A virtual environment of the pip part of envs/<env>.yaml, and of nothing else."""
    packages = yaml.safe_load((ROOT / f"envs/{env}.yaml").read_text())["dependencies"][-1]["pip"]
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    for some in ([p for p in packages if p.startswith("torch==")], packages):
        if some:
            subprocess.run([folder / "bin/python", "-m", "pip", "install", "--quiet", *some], check=True)


def run(rule: str, checkout: Path, env: Path) -> None:
    """Run all jobs of one rule, and only those, in an environment."""
    path = os.pathsep.join([str(env / "bin"), os.environ["PATH"]])
    done = snakemake(checkout, ["--until", rule, "--cores", os.environ.get("CORES", "2")], {"PATH": path})
    started = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, flags=re.MULTILINE))
    if started & environments().keys() != {rule}:
        sys.exit(f"{rule}: ran {', '.join(sorted(started)) or 'nothing'}")


def snakemake(checkout: Path, words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *TARGET, *words],
        cwd=checkout,
        env=os.environ | {"HPS_DATA_DIR": "", "HF_HUB_OFFLINE": "1"} | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        logs = [f"\n--- {log}\n{log.read_text()[-2000:]}" for log in checkout.glob("results/tiny/logs/**/*.log")]
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:] + "".join(logs[-4:]))
    return done


if __name__ == "__main__":
    main()
