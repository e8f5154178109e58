"""A metric is one entry of METRICS, a table one of TABLES: edited in a copy of the code, all else follows."""

import csv
import json
import re
from pathlib import Path

import pytest
from conftest import ONCE, ROOT, called
from synthetic_results import configuration, evaluation, run

from hps.evidence.tables import TABLES

LAST_METRIC = '        Metric("length", "Response length"'
NEW_METRIC = """        Metric("tokens_gained", "Tokens above ten", lambda e: e.values["length"] - 10, "tokens"),
"""
LAST_TABLE = '        TableSpec(\n            "training_time",'
NEW_TABLE = """        TableSpec("table9", "Table 9", "How n matters.", runs="n", varies="n", figure="nine"),
"""


def edit(path: Path, before: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    path.write_text(text.replace(before, new + before), encoding="utf-8")


def done(folder: Path, *words: object) -> str:
    run = called(*words, folder=folder)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_metric_is_one_entry(checkout, tmp_path):
    edit(checkout / "workflow_scripts/hps/evidence/metrics.py", LAST_METRIC, NEW_METRIC)
    prompts = [{"length": length, "reward": 1.0} for length in (11.0, 15.0)]
    config, report = configuration(tmp_path), "workflow_scripts/report.py"
    places = {
        "table2": (run(), "hh_rlhf"),
        "table5": (run(), "pku_saferlhf"),
        "table6": (run(n=5), "hh_rlhf"),
        "table8": (run(beta=0.5), "hh_rlhf"),
    }
    folders = []
    for name, (of, test_set) in places.items():
        folders.append(evaluation(tmp_path / "evaluations" / name, of, prompts, test_set))
        done(
            checkout, report, "table", "--name", name, "--config", config, "--out", "out", "--evaluations", folders[-1]
        )
        (row,) = csv.DictReader((checkout / f"out/{name}.csv").read_text().splitlines())
        assert (row["tokens_gained"], row["tokens_gained_lo"]) == ("3", "-22.4125")
        assert "Tokens above ten (tokens)" in (checkout / f"out/{name}.md").read_text()
    claims = checkout / "paper/claims.yaml"
    text = claims.read_text(encoding="utf-8")
    own = """claims:
  - {id: ours, group: beyond the paper, section: ours, says: Longer., table: table2, kind: at_least, limit: 2,
     metric: tokens_gained, of: {evaluated_on: hh_rlhf, method: dpo-hps}}
"""
    claims.write_text(text.replace("claims:\n", own, 1), encoding="utf-8")
    done(checkout, report, "claims", "--config", config, "--out", "out", "--evaluations", *folders)
    first = json.loads((checkout / "out/claims.json").read_text())["claims"][0]
    assert [one["mean"] for one in first["ours"]["comparisons"]] == [3.0]
    assert first["paper"]["comparisons"] == []  # the paper has no such number
    assert "Tokens above ten" in (checkout / "out/claims.md").read_text()


@pytest.mark.workflow
def test_a_table_is_one_entry(checkout):
    edit(checkout / "workflow_scripts/hps/evidence/tables.py", LAST_TABLE, NEW_TABLE)
    target = planned(checkout, "table9", *ONCE)
    assert (target["train"], target["table"]) == (8, 1)
    everything = planned(checkout, "report_contents")
    assert (everything["table"], everything["figure"]) == (len(TABLES) + 1, 5 + 1)


@pytest.mark.workflow
def test_an_ablation_is_a_table_and_a_figure_by_configuration_alone(checkout):
    path = checkout / "config.yaml"
    path.write_text(path.read_text().replace("over: {}", "over: {rank: {key: training.lora_rank, values: [4, 8]}}"))
    target = planned(checkout, "ablation_rank", *ONCE)
    assert (target["train"], target["evaluate"], target["table"]) == (4, 4, 1)
    everything = planned(checkout, "all")
    assert (everything["table"], everything["figure"]) == (len(TABLES) + 1, 5 + 1)


@pytest.mark.workflow
def test_a_part_is_made_anew_by_what_it_reads_and_by_nothing_else(checkout):
    words = ["--configfile", ROOT / "tests/smoke.yaml"]
    done(checkout, "-m", "snakemake", "--cores", "1", "theory", *words)
    assert planned(checkout, "theory", *words) == {}  # nothing to be done
    assert planned(checkout, "theory", *words, "--config", "evaluation={bleu: char}") == {}
    assert "theory" in planned(checkout, "theory", *words, "--config", "theory={repetitions: 4}")


def planned(folder: Path, *words: object) -> dict[str, int]:
    made = done(folder, "-m", "snakemake", "--cores", "1", "--dry-run", *words)
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", made, re.MULTILINE)}


def test_the_readme_lists_every_table():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in TABLES if f"`{name}`" not in text] == []
