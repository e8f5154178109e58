"""What the rules and the plan ask of a configuration."""

import shlex

import pytest
from test_config import load

from hps.support.errors import InputError
from hps.workflow import grid
from hps.workflow.pipeline import Pipeline

THIRD = {"format": "chat_pairs", "files": {"train": ["third/train.jsonl"], "test": ["third/test.jsonl"]}}
THREE = {"data": {"third": THIRD}, "grid": {"datasets": ["hh_rlhf", "pku_saferlhf", "third"]}}


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ({}, "results/tiny"),
        ({"protocol": "released_code"}, "results/tiny-released_code"),
        ({"name": "half-beta", "protocol": "released_code"}, "results/half-beta"),
    ],
)
def test_results_lie_under_the_name(given, folder):
    assert Pipeline(load(**given)).results == folder


def test_transfer_is_every_ordered_pair_or_those_that_are_configured():
    every = Pipeline(load(**THREE))
    assert len(every.transfer) == 6
    run = grid.grid_runs(every.config)[0]
    assert every.test_sets(run.name) == ["hh_rlhf", "pku_saferlhf", "third"]
    one = Pipeline(load(**THREE, evaluation={"transfer": [["hh_rlhf", "third"]]}))
    assert one.test_sets(run.name) == ["hh_rlhf", "third"]
    beyond = next(run for run in grid.beta_runs(one.config) if run.beta != 0.1)
    assert one.test_sets(beyond.name) == ["hh_rlhf"]  # Table 8 has no transfer
    assert Pipeline(load(**THREE, evaluation={"transfer": False})).transfer == []
    with pytest.raises(InputError, match=r"evaluation\.transfer: unknown 'thrid'"):
        load(**THREE, evaluation={"transfer": [["hh_rlhf", "thrid"]]})


def test_the_sft_policy_is_sampled_with_each_seed():
    pipeline = Pipeline(load(seeds=[3, 5]))
    assert [pipeline.evaluation_seed(policy) for policy in pipeline.sft] == [3, 5]
    for run in grid.grid_runs(pipeline.config)[:40:13]:
        assert pipeline.evaluation_seed(run.name) == pipeline.evaluation_seed(pipeline.policy(None, run.seed))


def test_policies_are_evaluated_in_jobs_of_the_same_kind():
    assert Pipeline(load(preset="smollm2")).evaluation_jobs == {"evaluate": ["{policy}"]}
    pipeline = Pipeline(load(preset="paper", compute={"policies_per_job": 8}))
    jobs = list(pipeline.evaluation_jobs.values())
    assert list(pipeline.evaluation_jobs)[:2] == ["evaluate_1", "evaluate_2"]
    assert sorted(name for job in jobs for name in job) == sorted([*pipeline.sft, *pipeline.runs])
    assert [len(job) for job in jobs] == [1, 8, 8, 8, 6, 6, 8, 8, 6]  # SFT, grid, n, beta, Table A
    assert jobs == list(Pipeline(load(preset="paper", compute={"policies_per_job": 8})).evaluation_jobs.values())


def test_policies_of_others_are_evaluated_as_the_sft_policy_is_and_after_ours():
    given = [{"name": "authors", "repo": "owner/hps"}, {"name": "best", "repo": "o/r", "folder": "a", "revision": "v1"}]
    small = {"preset": "smollm2", "seeds": [3, 5]}
    pipeline = Pipeline(load(published=given, **small))
    names = [f"published~{name}_seed~{seed}" for name in ("authors", "best") for seed in (3, 5)]
    assert list(pipeline.of_others) == names
    assert [pipeline.evaluation_seed(name) for name in names] == [3, 5, 3, 5]
    assert pipeline.test_sets(names[0]) == ["hh_rlhf", "pku_saferlhf"]
    assert pipeline.weights(names[0]) == "results/smollm2/published/authors"
    assert pipeline.settings("fetch_published", entry=pipeline.published["best"]).split() == [
        *("--repo", "o/r", "--revision", "v1", "--folder", "a")
    ]
    wanted = [(one.repo, one.revision, one.patterns[1]) for one in pipeline.wanted if one.kind == "model"]
    assert wanted == [("owner/hps", "", "*.safetensors"), ("o/r", "v1", "a/*.safetensors")]
    several = {"compute": {"policies_per_job": 3}}
    ours = Pipeline(load(**small, **several)).evaluation_jobs
    jobs = Pipeline(load(published=given, **small, **several)).evaluation_jobs
    assert list(jobs.items())[: len(ours)] == list(ours.items())  # and so nothing of ours is made again
    assert list(jobs.values())[len(ours) :] == [names[:3], names[3:]]


def test_as_many_responses_are_generated_as_the_data_sets_trainings_use():
    needed = Pipeline(load(grid={"n": 6}, candidates={"n": None, "n_test": 4}, ablations={"n": [5, 9]}))
    splits = [("hh_rlhf", "train"), ("pku_saferlhf", "train"), ("pku_saferlhf", "test")]
    assert [needed.candidates(*split) for split in splits] == [9, 6, 4]  # the ablation is of hh_rlhf
    assert Pipeline(load(candidates={"n": 200})).candidates("pku_saferlhf", "train") == 200


def test_a_run_is_trained_with_its_own_settings():
    over = {"rank": {"key": "training.lora_rank", "values": [4], "methods": ["dpo-hps"]}}
    pipeline = Pipeline(load(ablations={"over": over}, objective={"pl_responses": 10}, seeds=[0]))
    (run,) = grid.ablation_runs(pipeline.config)["rank"][1]
    words = shlex.split(pipeline.settings("train", run))
    assert words[words.index("--lora-rank") + 1] == "4"
    (strong,) = [run for run in grid.beta_runs(pipeline.config) if (run.beta, run.loss) == (1.0, "hps")]
    assert "--beta 1.0 " in pipeline.settings("train", strong)
    assert pipeline.pool(grid.grid_runs(pipeline.config)[0]) == 10  # of PL


def test_what_only_costs_is_apart():
    one, other = (Pipeline(load(compute={"score_tokens": n, "sequences": n})) for n in (7, 8))
    assert one.cost("evaluate") == "--score-tokens 7 --sequences 7"
    assert one.settings("evaluate") == other.settings("evaluate")
    assert one.values == other.values
    assert one.values != Pipeline(load(training={"epochs": 3})).values


def test_full_fine_tuning_scores_in_float32():
    full = Pipeline(load(training={"adapter": "full"}, compute={"dtype": "bfloat16"}))
    assert "--dtype float32" in full.settings("reference")
    assert "--dtype bfloat16" in full.settings("augment")


def test_paths_with_anything_in_them_reach_the_command(tmp_path):
    folder = tmp_path / "it's $(touch x); [a] {b} *"
    for name in ("hh-rlhf/harmless-base", "pku-saferlhf"):
        (folder / name).mkdir(parents=True)
        for part in ("train", "test"):
            (folder / name / f"{part}.jsonl.gz").touch()
    pipeline = Pipeline(load(preset="smollm2", data_dir=str(folder)))
    words = shlex.split(pipeline.data_source("pku_saferlhf"))
    assert words[words.index("--test-files") + 1] == f"{folder}/pku-saferlhf/test.jsonl.gz"


def test_the_tokenizer_alone_needs_no_training():
    assert Pipeline(load()).tokenizer == "results/tiny/models/tokenizer"
    assert Pipeline(load(preset="paper")).tokenizer == "results/paper/models/policy"


def test_a_model_overwritten_in_place_is_fetched_anew(tmp_path):
    """The state of the files is a parameter of the rule."""
    (tmp_path / "model.safetensors").write_bytes(b"old")
    (tmp_path / "notes.txt").write_text("no part of the model")
    given = {
        role: {"source": "path", "path": str(tmp_path)} for role in ("policy", "generator", "reward", "eval_reward")
    }
    pipeline = Pipeline(load(models=given))
    before = pipeline.model_state("policy")
    assert [name for name, *_ in before] == ["model.safetensors"]
    assert pipeline.model_state("policy") == before
    (tmp_path / "model.safetensors").write_bytes(b"new")
    assert pipeline.model_state("policy") != before
    assert Pipeline(load()).model_state("policy") == []


def test_templates_of_models_made_elsewhere_are_asked_before_anything_is_generated():
    assert Pipeline(load()).models_from_elsewhere("policy", "reward", "eval_reward") == []
    paper = Pipeline(load(preset="paper"))
    assert paper.models_from_elsewhere("policy", "reward") == [paper.model("policy"), paper.model("reward")]
