"""The DAG: what each preset would run, without data or network, and what bad configuration does to it."""

import pytest
from conftest import NO_JUDGE, ONCE, planned_jobs, snakemake

pytestmark = pytest.mark.workflow


ALWAYS = {
    "download": 2,
    "reward_model": 2,
    "examples": 4,
    "train": 44 + 2 * 7,  # Tables 2 and 5 to 8; Table A
    "evaluate": 44 + 2 * 7 + 1,  # each run and SFT
    "table": 5 + 3,  # Table 3, Table A, training time
    "user_study": 1,
    "answers": 1,
    "figure": 5,
    "training_curves": 2,
    "configuration": 1,
    "overview": 1,
    "human_pairs": 2,
    "human_lengths": 2,
    "audit": 1,
    "theory": 1,
    "claims": 1,
    "cost": 1,
    "report": 1,
    "all": 1,
}
TINY = ALWAYS | {"toy_data": 1, "tokenizer": 1, "scratch_model": 2, "judge": 1, "simulate_ratings": 1}
TINY["table"] = 5 + 4
SHARDED = ("augment", "annotate", "reference")


@pytest.mark.parametrize(
    ("preset", "jobs", "shards"),
    [
        ("tiny", TINY, 1 + 1),
        ("smollm2", ALWAYS | {"fetch_model": 2, "reward_model": 3}, 1 + 1),
        ("paper", {k: n for k, n in ALWAYS.items() if k != "reward_model"} | {"fetch_model": 4}, 64 + 1),
    ],
)
def test_every_preset_plans_the_papers_44_trainings_and_those_of_table_a(checkout, preset, jobs, shards):
    planned = planned_jobs(snakemake("--dry-run", "all", *ONCE, "--config", f"preset={preset}", folder=checkout))
    expected = jobs | dict.fromkeys(SHARDED, 2 * shards)
    assert planned.pop("total") == sum(expected.values())
    assert planned == expected


@pytest.mark.parametrize(
    ("target", "trainings", "evaluations"),
    [
        ("table2", 30, 31),
        ("table5", 30, 30),
        ("table6", 8, 8),
        ("table7", 8, 8),
        ("table8", 10, 10),
        ("table_attribution", 2 * 9, 2 * 9),
        ("training_time", 30, 0),
        ("figures", 44, 45),
        ("claims", 44, 45),
    ],
)
def test_each_target_alone_plans_only_what_it_needs(checkout, target, trainings, evaluations):
    planned = planned_jobs(snakemake("--dry-run", target, *ONCE, folder=checkout))
    assert planned["train"] == trainings
    assert planned.get("evaluate", 0) == evaluations


def test_table_4_needs_the_judged_methods_alone(checkout):
    planned = planned_jobs(snakemake("--dry-run", "table4", *ONCE, folder=checkout))
    assert (planned["train"], planned["evaluate"], planned["judge"]) == (3 * 2, 3 * 2 + 1, 1)


def test_table_4_with_a_judge_is_part_of_all(checkout):
    environment = dict(zip(NO_JUDGE, ("http://localhost:8000/v1", "judge-1", "none"), strict=True))
    done = snakemake("--dry-run", "all", "--config", "preset=smollm2", folder=checkout, **environment)
    assert planned_jobs(done)["judge"] == 1


def test_table_4_without_a_judge_stops_before_any_job_and_names_the_variables(checkout):
    done = snakemake("table4", "--config", "preset=smollm2", folder=checkout, HPS_JUDGE_URL="http://localhost/v1")
    assert done.returncode != 0
    assert "Table 4: HPS_JUDGE_MODEL, HPS_JUDGE_KEY not set: the judge's URL" in done.stdout + done.stderr
    assert not (checkout / "results").exists()


def test_the_target_of_a_table_without_runs_says_so(checkout):
    done = snakemake("--dry-run", "table6", "--config", "ablations={n: []}", folder=checkout)
    assert done.returncode != 0
    assert "Table 6: number of responses, fine-tuning: left out of the report." in done.stdout + done.stderr


def test_a_broken_judge_stops_before_any_job(checkout):
    variables = {"HPS_JUDGE_URL": "http://localhost:99999/v1", "HPS_JUDGE_MODEL": "m", "HPS_JUDGE_KEY": "none"}
    done = snakemake("--dry-run", "all", "--config", "preset=smollm2", folder=checkout, **variables)
    assert done.returncode != 0
    assert "HPS_JUDGE_URL: is no URL of the form http://host:port/v1" in done.stdout + done.stderr


def test_table_4_without_its_method_in_the_grid_is_left_out(checkout):
    given = ["--config", 'grid={"losses": ["bt", "pl"]}', "ablations={methods: [dpo-bt]}"]
    assert "judge" not in planned_jobs(snakemake("--dry-run", "all", *given, folder=checkout))
    done = snakemake("--dry-run", "table4", *given, folder=checkout)
    assert "Table 4: judge.method: dpo-hps is not in the grid" in done.stdout + done.stderr


def test_table_3_without_ratings_is_planned_and_with_ratings_reads_their_key(checkout):
    planned = planned_jobs(snakemake("--dry-run", "table3", "--config", "preset=smollm2", folder=checkout))
    assert (planned["user_study"], planned["table"], planned.get("simulate_ratings")) == (1, 1, None)
    returned = checkout / "returned"
    returned.mkdir()
    for name in ("key.json", "ratings (1).json"):
        (returned / name).write_text("{}")
    words = ["--dry-run", "--printshellcmds", "table3", "--config", "user_study={ratings: returned}"]
    done = snakemake(*words, folder=checkout)
    assert planned_jobs(done) == {"table": 1, "table3": 1, "total": 2}
    assert "--key returned/key.json --ratings 'returned/ratings (1).json'" in done.stdout
    (returned / "RATINGS.JSON").write_text("{}")
    done = snakemake(*words, folder=checkout)
    assert done.returncode != 0
    assert "returned/RATINGS.JSON: is no returned file" in done.stdout + done.stderr


def test_table_3_without_methods_in_the_grid_is_left_out(checkout):
    given = ["--config", 'grid={"rewards": ["exo"]}']
    assert "user_study" not in planned_jobs(snakemake("--dry-run", "all", *given, folder=checkout))
    done = snakemake("--dry-run", "table3", *given, folder=checkout)
    assert "Table 3: user_study.methods: of them the grid has only sft" in done.stdout + done.stderr


@pytest.mark.parametrize("preset", ["smollm2", "paper"])
def test_the_audit_alone_needs_data_and_a_tokenizer(checkout, preset):
    planned = planned_jobs(snakemake("--dry-run", "audit", "--config", f"preset={preset}", folder=checkout))
    assert planned == {"human_pairs": 2, "human_lengths": 2, "fetch_model": 1, "audit": 1, "total": 6}


def test_the_audit_waits_for_annotated_pairs_that_the_run_makes(checkout):
    planned = planned_jobs(snakemake("--dry-run", "audit", "table_attribution", folder=checkout))
    alone = planned_jobs(snakemake("--dry-run", "table_attribution", folder=checkout))
    assert planned["audit"] == 1
    assert {name: planned[name] for name in SHARDED} == {name: alone[name] for name in SHARDED}


def test_the_audit_alone_takes_the_annotated_pairs_that_are_there(checkout):
    for stage in SHARDED:
        folder = {"augment": "candidates", "annotate": "scored"}.get(stage, stage)
        path = checkout / "results" / "smollm2" / folder / "hh_rlhf" / "test.1-of-1.parquet"
        path.parent.mkdir(parents=True)
        path.touch()
    done = snakemake("--dry-run", "--printshellcmds", "audit", "--config", "preset=smollm2", folder=checkout)
    (command,) = [line for line in done.stdout.splitlines() if "report.py audit" in line]
    assert "--annotated-sets hh_rlhf --candidates results/smollm2/candidates/hh_rlhf/test.1-of-1.parquet " in command


def test_tables_together_train_nothing_twice(checkout):
    planned = planned_jobs(snakemake("--dry-run", "table2", "table6", "table8", *ONCE, folder=checkout))
    assert planned["train"] == 44


def test_a_parameterization_added_to_the_grid_is_a_row_everywhere(checkout):
    given = 'grid={"rewards": ["dpo", "kto"]}'
    planned = planned_jobs(snakemake("--dry-run", "table2", *ONCE, "--config", given, folder=checkout))
    assert planned["train"] == 2 * 3 * 2


def test_one_data_set_has_no_transfer(checkout):
    given = 'grid={"datasets": ["hh_rlhf"]}'
    planned = planned_jobs(snakemake("--dry-run", "all", *ONCE, "--config", given, folder=checkout))
    assert (planned["train"], planned["evaluate"], planned["table"]) == (15 + 6 + 8 + 7, 15 + 6 + 8 + 7 + 1, 3 + 4)


def test_without_transfer_there_are_no_tables_of_it(checkout):
    planned = planned_jobs(
        snakemake("--dry-run", "all", *ONCE, "--config", "evaluation={transfer: false}", folder=checkout)
    )
    assert (planned["train"], planned["evaluate"], planned["table"]) == (58, 59, 3 + 4)


def test_without_data_sets_for_table_a_there_is_none(checkout):
    planned = planned_jobs(
        snakemake("--dry-run", "all", *ONCE, "--config", "attribution={datasets: []}", folder=checkout)
    )
    assert (planned["train"], planned["table"]) == (44, 5 + 3)


def test_another_number_of_shards_cuts_the_same_work(checkout):
    planned = planned_jobs(snakemake("--dry-run", "table2", "--set-scatter", "train=8", folder=checkout))
    assert planned["augment"] == planned["annotate"] == planned["reference"] == 2 * (8 + 1)


def test_a_policy_of_others_is_fetched_and_evaluated_for_tables_2_and_5_and_no_claim(checkout):
    given = ("--config", "published=[{name: authors, repo: owner/hps}]")
    for target, evaluations, fetched in (("table2", 31 + 1, 1), ("table5", 30 + 1, 1), ("claims", 45, None)):
        planned = planned_jobs(snakemake("--dry-run", target, *ONCE, *given, folder=checkout))
        assert (planned["evaluate"], planned.get("fetch_published")) == (evaluations, fetched)


def test_publishing_needs_a_repository_and_makes_what_is_missing(checkout):
    done = snakemake("publish", "--dry-run", *ONCE, folder=checkout)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if "publish" in line]
    assert lines == [
        "error: config.yaml: publish.repo: is empty; name a repository of yours on the hub, such as me/hps"
    ]
    done = snakemake("publish", "--dry-run", *ONCE, "--config", "publish={repo: me/hps}", folder=checkout)
    planned = planned_jobs(done)
    assert {name: planned[name] for name in ("train", "report", "publication", "publish")} == {
        "train": 58, "report": 1, "publication": 1, "publish": 1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--config", "training={epoch: 3}"), "command line: training.epoch: unknown key (did you mean epochs?)"),
        (("--config", "objective={beta: -1}"), "command line: objective.beta: -1 is less than"),
        (("--config", "preset=smollm2", "data_dir=/nowhere"), "command line: data_dir: no folder /nowhere"),
    ],
)
def test_bad_configuration_stops_before_any_job_with_one_line(checkout, words, message):
    done = snakemake("--dry-run", "all", *words, folder=checkout)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not (checkout / "results").exists()


def test_a_wrong_value_in_config_yaml_names_that_file(checkout):
    path = checkout / "config.yaml"
    path.write_text(path.read_text().replace("protocol: paper", "protocol: papre"))
    done = snakemake("--dry-run", "all", folder=checkout)
    assert "config.yaml: protocol: no protocol 'papre'; there are paper, released_code" in done.stdout + done.stderr


def test_the_audit_of_the_toy_world_trains_nothing(checkout):
    planned = planned_jobs(snakemake("--dry-run", "audit", folder=checkout))
    assert not planned.keys() & {"train", "scratch_model", "reward_model", "augment"}


def test_jobs_use_the_python_that_runs_snakemake(checkout):
    """`.venv/bin/snakemake` called by its path, without the environment being active."""
    done = snakemake("results/tiny/config.json", folder=checkout, PATH="/usr/bin:/bin")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (checkout / "results/tiny/config.json").is_file()


def test_a_broken_config_yaml_is_named_with_its_row(checkout):
    (checkout / "config.yaml").write_text("preset: tiny\npreset: paper\n")
    done = snakemake("--dry-run", "all", folder=checkout)
    assert "config.yaml:2: key preset stands twice in its block" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
