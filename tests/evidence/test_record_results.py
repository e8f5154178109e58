"""What is recorded of a run to be committed."""

import csv
import gzip
import json
import re

import pytest
import record_results
from conftest import ROOT, SCRIPTS, called, python_environment
from synthetic_results import benchmark, evaluation, run, training

from hps.support.errors import InputError
from hps.support.files import read_csv, write_json, write_text


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    made_with = dict.fromkeys(("time", "code", "python", "platform", "threads", "packages"), "known")
    made_with["gpu"] = {"names": ["H200"]}
    log = [{"step": 0, "loss": 0.7}, {"step": 1, "loss": 0.5}]
    training(folder / "runs" / "a" / "b", run("dpo-bt"), log=log, provenance=made_with)
    write_text(folder / "tables" / "table2.csv", "method\n")
    write_text(folder / "tables" / "table2.tex", "\\begin{table}")
    write_text(folder / "tables" / "table2.html", "<p>")
    write_text(folder / "theory" / "theory.md", "# Theorems\n")
    write_json(folder / "models" / "policy" / "model.json", {"role": "policy", "provenance": {"code": "x"}})
    sources = [{"path": "/home/someone/data/test.jsonl.gz", "sha256": "ab"}]
    write_json(folder / "data" / "hh_rlhf" / "counts.json", {"parts": {"test": {"sources": sources}}})
    benchmark(folder / "benchmarks" / "train" / "a" / "b.tsv", 2.5, "300.4")
    benchmark(folder / "benchmarks" / "train" / "a" / "c.tsv", 1.5, "400.4")
    benchmark(folder / "benchmarks" / "judge.tsv", 0.5)
    return folder


def test_tables_and_a_summary(results, tmp_path):
    out = tmp_path / "measured"
    record_results.main(record_results.Arguments(results=str(results), command="make real", out=str(out)))
    assert sorted(path.name for path in out.iterdir()) == ["summary.json", "table2.csv", "table2.tex", "theory.md"]
    found = json.loads((out / "summary.json").read_text())
    assert (found["command"], found["code versions"], found["from"]) == ("make real", ["known", "x"], "known")
    assert "/home/someone" not in json.dumps(found)
    assert found["data"]["hh_rlhf"]["parts"]["test"]["sources"][0] == {"path": "test.jsonl.gz", "sha256": "ab"}
    assert found["models"] == {"policy": {"role": "policy"}}
    assert found["gpus"] == [{"names": ["H200"]}]
    assert found["seconds by stage (sum over jobs)"] == {"train": 4.0, "judge": 0.5}
    assert found["core seconds by stage (sum over jobs)"] == {"train": 2.0, "judge": 0.2}
    assert found["MiB by stage (largest job)"] == {"train": 400}
    (one,) = found["trainings"]
    assert (one["run"]["loss"], one["first step"]["loss"], one["last step"]["loss"]) == ("bt", 0.7, 0.5)


def test_each_policys_numbers_by_seed_and_by_prompt(results, tmp_path):
    prompts = [{"reward": 1.0, "margin_human": 0.5}, {"reward": 2.0, "margin_human": None}]
    for seed in (0, 1):
        evaluation(results / f"evaluations/a/b{seed}/hh_rlhf", run("dpo-bt", seed=seed), prompts)
    evaluation(results / "evaluations/sft/hh_rlhf", None, [{"reward": 1.0}, {"reward": 2.0}])
    (results / "figures").mkdir()
    write_text(results / "figures" / "margins.svg", "<svg/>")
    out = tmp_path / "measured"
    record_results.main(record_results.Arguments(results=str(results), command="make", out=str(out), per_prompt=True))
    assert (out / "margins.svg").is_file()
    bt, again, sft = read_csv(out / "per_seed.csv")
    assert (bt["method"], bt["seed"], again["seed"], sft["method"]) == ("dpo-bt", "0", "1", "sft")
    assert (bt["reward"], bt["rm_dpo_human"], bt["prompts"], bt["settings"]) == ("1.5", "0.5", "2", "{}")
    assert (sft["trained_on"], sft["rm_dpo_human"]) == ("", "")
    with gzip.open(out / "per_prompt.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["reward"] for row in rows] == ["1", "2"] * 3
    assert [row["rm_dpo_human"] for row in rows] == ["0.5", ""] * 2 + ["", ""]


def test_an_audit_without_trainings(tmp_path):
    results, out = tmp_path / "results", tmp_path / "measured"
    write_text(results / "audit" / "length_gaps.csv", "source\n")
    made_with = dict.fromkeys(("time", "code", "python", "platform", "threads", "packages"), "known")
    write_json(results / "models" / "policy" / "model.json", {"role": "policy", "provenance": made_with})
    counts = {"parts": {"test": {"sources": [{"path": "/home/someone/test.jsonl.gz", "sha256": "ab"}]}}}
    write_json(results / "audit" / "human_pairs" / "hh_rlhf" / "counts.json", counts)
    record_results.main(record_results.Arguments(results=str(results), command="snakemake audit", out=str(out)))
    assert sorted(path.name for path in out.iterdir()) == ["length_gaps.csv", "summary.json"]
    found = json.loads((out / "summary.json").read_text())
    assert (found["python"], found["trainings"]) == ("known", [])
    assert found["human pairs of the audit"]["hh_rlhf"]["test"]["sources"] == [
        {"path": "test.jsonl.gz", "sha256": "ab"}
    ]


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(InputError, match="has no tables to record"):
        record_results.main(record_results.Arguments(results=str(tmp_path), command="x", out=str(tmp_path / "o")))
    assert not (tmp_path / "o").exists()


def test_the_code_of_the_page_about_the_study_computes_the_intervals_of_the_table():
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/study.md").read_text(), re.DOTALL)
    done = called("-c", code, env=python_environment(PYTHONPATH=str(SCRIPTS)))
    assert done.returncode == 0, done.stderr
    expected = []
    for row in read_csv(ROOT / re.search(r"results/.*/", code)[0] / "table2.csv"):
        if row["method"] == "dpo-hps":
            mean, lo, hi = (float(row[f"rm_dpo_minus_bt{end}"]) for end in ("", "_lo", "_hi"))
            told = f"HPS - BT = {mean:.2f} [{lo:.2f}, {hi:.2f}] nats, {len(row['seeds'].split())} seeds"
            expected.append(f"{row['trained_on']}: {told}")
    assert len(expected) == 2
    assert done.stdout.splitlines() == expected
