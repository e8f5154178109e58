"""The whole DAG, cut down: from nothing to the report, and again where something is missing or changed."""

import csv
import json
import math
import subprocess
from pathlib import Path

import pytest
from conftest import called, copied_checkout, python_environment
from hub_server import WRITER, serving
from rocrate.rocrate import ROCrate

from hps.support.provenance import code_version

pytestmark = pytest.mark.workflow


def snakemake(folder: Path, *words: str, env: dict[str, str] | None = None) -> str:
    words = ("-m", "snakemake", "--cores", "2", *words, "--configfile", "tests/smoke.yaml")
    done = called(*words, folder=folder, env=env or python_environment(HPS_DATA_DIR=""))
    logs = "".join(f"\n--- {path}\n{path.read_text()[-2000:]}" for path in folder.rglob("results/tiny/logs/**/*.log"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + logs
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A copy of the checkout in which `snakemake all` has run."""
    folder = copied_checkout(tmp_path_factory.mktemp("checkout") / "hps-replica")
    snakemake(folder, "all")
    return folder


def read_csv(path: Path) -> list[dict]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


PAPER = {
    "table2": ("table2_finetuning", 2 + 6),
    "table3": ("table3_human", 4),
    "table4": ("table4_win_rate", 6),
    "table5": ("table5_transfer", 6),
    "table6": ("table6_responses_finetuning", 4),
    "table7": ("table7_responses_transfer", 4),
    "table8": ("table8_beta_finetuning", 4),
    "training_time": ("training_hours", 3),
}


@pytest.mark.parametrize(("table", "paper", "rows"), [(name, *value) for name, value in PAPER.items()])
def test_tables_begin_with_the_papers_columns_and_hold_numbers(finished, table, paper, rows):
    ours = read_csv(finished / f"results/tiny/tables/{table}.csv")
    columns = list(read_csv(finished / f"paper/{paper}.csv")[0])
    assert list(ours[0])[: len(columns)] == columns
    assert len(ours) == rows
    for row in ours:
        numbers = [
            row[name] for name in columns if name not in ("evaluated_on", "opponent", "method", "loss") and row[name]
        ]
        assert len(numbers) >= (1 if table == "table3" else 2)
        assert all(math.isfinite(float(number)) for number in numbers)
    assert (finished / f"results/tiny/tables/{table}.md").stat().st_size > 200
    assert f"\\label{{tab:{table}}}" in (finished / f"results/tiny/tables/{table}.tex").read_text()


def test_a_table_says_that_it_comes_from_a_toy_world(finished):
    assert "toy world" in (finished / "results/tiny/tables/table2.md").read_text()


def test_simulated_raters_are_called_that(finished):
    assert "SIMULATED" in (finished / "results/tiny/tables/table3.md").read_text()
    assert (finished / "results/tiny/user_study/pages/rater-01.html").is_file()


def test_the_report_holds_tables_figures_and_overviews(finished):
    report = (finished / "results/tiny/report.html").read_text()
    for name in ("table2.html", "training_time.html", "margins.svg", "training_curves_hh_rlhf.svg", "data.html"):
        assert name in report
    for name in ("claims.html", "audit.html", "length_gaps.svg", "theorems.svg", "cost.html"):
        assert name in report
    assert "RM_DPO of HPS is above that of BT, with each of the five rewards." in report  # the first page


def test_with_so_little_data_no_claim_on_a_policy_is_supported(finished):
    claims = json.loads((finished / "results/tiny/claims/claims.json").read_text())["claims"]
    on_policies = [claim["ours"] for claim in claims if claim["table"] != "theory"]
    assert {ours["verdict"] for ours in on_policies} == {"open"}
    assert any(ours["comparisons"] for ours in on_policies)
    rows = {row["number"]: row for row in read_csv(finished / "results/tiny/audit/audit.csv")}
    assert (rows["1a"]["verdict"], rows["7a"]["verdict"]) == ("inconsistent", "open")
    assert "human pairs" in rows["7a"]["recomputes"]


def test_every_result_says_what_it_was_made_with(finished):
    found = [*finished.glob("results/tiny/runs/*/*/training.json")]
    found += finished.glob("results/tiny/evaluations/**/evaluation.json")
    trainings = 6 + 2 + 2 + 2 + 7  # the grid; dpo-bt with another seed; n; beta; Table A
    # SFT with both seeds; the grid, dpo-bt again and n on both test sets; beta and Table A on their own
    evaluations = 2 * 2 + 2 * (6 + 2 + 2) + 2 + 7
    assert len(found) == trainings + evaluations
    for path in found:
        made_with = json.loads(path.read_text())["provenance"]
        assert made_with["packages"]["torch"].startswith("2.13.0")
        assert made_with["settings"]["seed"] in (0, 1)
        assert all(made_with["inputs"].values())


def test_nothing_half_written_and_no_checkpoint_is_left(finished):
    assert not [*finished.glob("results/**/*.partial")]
    kept = finished.glob("results/tiny/checkpoints/*/*/*")
    assert {path.name for path in kept} == {"finished"}  # links to the outputs of each run


def test_policy_equals_reference_at_the_start_of_every_run(finished):
    for path in finished.glob("results/tiny/runs/*/*/log.jsonl"):
        first = json.loads(path.read_text().splitlines()[0])
        assert first["margin"] == pytest.approx(0, abs=1e-4)


def test_the_run_is_an_ro_crate_that_names_configuration_code_and_tables(finished):
    words = ["make", "--dry-run", "--no-print-directory", "crate", "RUN=--configfile tests/smoke.yaml"]
    env = python_environment(HPS_DATA_DIR="")
    said = subprocess.run(words, cwd=finished, env=env, capture_output=True, text=True, check=True).stdout
    command = said[said.index("snakemake all") :]  # what comes before it installs the environment
    done = subprocess.run(command, shell=True, cwd=finished, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    crate = ROCrate(finished)
    assert crate.root_dataset["version"] == code_version(finished)
    files = {entity.get("contentUrl"): entity for entity in crate.get_entities()}
    assert {"Snakefile", "config.yaml", "tests/smoke.yaml", "results/tiny/config.json"} <= files.keys()
    for table in PAPER:
        made = {f"results/tiny/tables/{table}.{kind}" for kind in ("csv", "md", "tex", "html")}
        assert made <= files.keys()
        (job,) = files[f"results/tiny/tables/{table}.csv"]["generatedBy"]
        assert f"report.py table --name {table} " in job["command"]
    local = [path for path in files if path and "://" not in path]
    assert [path for path in local if not (finished / path).exists()] == []


def test_a_second_call_has_nothing_to_do(finished):
    assert "Nothing to be done" in snakemake(finished, "--dry-run", "all")


def test_a_missing_table_is_made_again_alone(finished):
    for path in finished.glob("results/tiny/tables/table6.*"):
        path.unlink()
    plan = snakemake(finished, "--dry-run", "table6")
    assert "\ntable " in plan
    assert "\ntrain " not in plan
    assert "\nevaluate_" not in plan


def test_another_learning_rate_trains_again_but_generates_nothing(finished):
    plan = snakemake(finished, "--dry-run", "table2", "--config", "training={learning_rate: 0.001}")
    assert "\ntrain " in plan
    assert "\naugment " not in plan
    assert "\nannotate " not in plan


def test_what_only_costs_makes_nothing_again(finished):
    settings = (
        "compute={train_tokens: 2048, score_tokens: 4096, sequences: 64, activation_checkpointing: true}",
        "training={checkpoint_every: 3}",
        "judge={concurrency: 3, timeout: 60, retries: 1, max_requests: 30000, max_tokens: 9000000}",
        "tensorboard=true",
    )
    assert "Nothing to be done" in snakemake(finished, "--dry-run", "all", "--config", *settings)


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("objective={gamma_levels: [0]}", "train"),
        ("objective={hyperparameters: {dpo: {label_smoothing: 0.1}}}", "train"),
        ("training={batch_size: 2}", "train"),
        ("rewards={output: mean}", "annotate"),
        ("candidates={temperature: 1.0}", "augment"),
        ("compute={dtype: bfloat16}", "reference"),
        ("evaluation={temperature: 1.0}", "evaluate_1"),
        ("judge={orders: drawn}", "judge"),
    ],
)
def test_what_changes_a_result_makes_it_again(finished, setting, rule):
    assert f"\n{rule} " in snakemake(finished, "--dry-run", "all", "--config", setting)


def test_a_run_is_published_whole_and_a_policy_of_it_is_a_row_like_any_of_others(finished, tmp_path):
    """The last, since it changes the configuration. Sent to a hub on this machine, and fetched from there again."""
    (path,) = finished.glob("results/tiny/runs/dataset~hh_rlhf/method~dpo-hps_n~8_beta~0.1_seed~0")
    folder = path.relative_to(finished / "results/tiny").as_posix()
    with serving({}) as server:
        env = server.environment(tmp_path / "cache", HPS_DATA_DIR="", HF_TOKEN=WRITER)
        told = snakemake(finished, "publish", "--config", "publish={repo: me/hps, license: mit}", env=env)
        assert "me/hps: published as" in told
        (message,) = (repo := server.repos["me/hps"]).commits
        assert message.startswith("HPS-Replica ")
        of_runs = {name.rpartition("/")[0] for name in repo.files if name.startswith("runs/")}
        assert of_runs == {
            f"runs/{run.parent.relative_to(finished / 'results/tiny/runs')}" for run in trainings(finished)
        }
        for run in of_runs:
            assert {f"{run}/{name}" for name in ("README.md", "adapter_config.json")} <= repo.files.keys()
        assert {"README.md", "report.html", "tables/table2.csv", "tables/table4.md"} <= repo.files.keys()
        assert not [name for name in repo.files if "/." in f"/{name}"]
        published = f"published=[{{name: theirs, repo: me/hps, folder: '{folder}'}}]"
        told += snakemake(finished, "table2", "table5", "--config", published, env=env)
    assert WRITER not in told + "".join(log.read_text() for log in finished.glob("results/tiny/logs/**/*.log"))
    for table, tested in (("table2", "hh_rlhf"), ("table5", "pku_saferlhf")):
        rows = read_csv(finished / f"results/tiny/tables/{table}.csv")
        theirs = {row["evaluated_on"]: row for row in rows if row["method"] == "theirs"}
        assert theirs.keys() == {"hh_rlhf", "pku_saferlhf"}
        (ours,) = (row for row in rows if (row["method"], row["evaluated_on"]) == ("dpo-hps", tested))
        assert float(theirs[tested]["rm_dpo"]) == pytest.approx(float(ours["rm_dpo"]), rel=1e-4)
        assert (theirs[tested]["seeds"], theirs[tested]["trained_on"]) == ("0 1", "")


def trainings(finished: Path) -> list[Path]:
    return list(finished.glob("results/tiny/runs/*/*/training.json"))
