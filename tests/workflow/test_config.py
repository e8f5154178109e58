"""Layers, checks before any job, and the runs a configuration asks for."""

from dataclasses import replace

import pytest
import yaml
from conftest import ROOT, called

from hps.runs import Run
from hps.support.errors import InputError
from hps.workflow import config, grid
from hps.workflow.pipeline import Pipeline

BASE = yaml.safe_load((ROOT / "config.yaml").read_text())
PRESETS = sorted(path.stem for path in (ROOT / "config" / "presets").glob("*.yaml"))
PROBE = {"source": "probe", "base": "policy", "split": "reward", "layers": [1], "holdout": 0.3, "seed": 0}
PROTOCOLS = sorted(path.stem for path in (ROOT / "config" / "protocols").glob("*.yaml"))


def merged(base: dict, changes: dict) -> dict:
    """`changes` over `base`, mappings key by key, as Snakemake merges its command line over config.yaml."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(value, dict) and isinstance(below, dict) else value
    return result


def load(**changes) -> config.Config:
    return config.load(ROOT, merged(BASE, changes))


def leaves(values: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in values.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return found


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_preset_with_every_protocol_asks_for_the_papers_trainings_and_table_a(preset, protocol):
    resolved = load(preset=preset, protocol=protocol, seeds=[0])
    runs = grid.all_runs(resolved)
    assert len(set(runs)) == len(runs)
    tables, ns, betas, parts = (
        f(resolved) for f in (grid.grid_runs, grid.n_runs, grid.beta_runs, grid.attribution_runs)
    )
    assert len(tables) == 5 * 3 * 2
    assert set(runs) == {*tables, *ns, *betas, *parts}
    datasets = len(resolved["attribution"]["datasets"])
    assert len(set(parts) - set(tables)) == datasets * 7  # BT and HPS as configured are in the grid
    if protocol == "paper":
        assert len(runs) == 30 + 3 * 2 + 4 * 2 + datasets * 7


def test_a_file_of_the_command_line_is_named(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("training: {epochs: 3}\nseeds: [-1]\n")
    second.write_text("seeds: [-2]\n")
    given = merged(BASE, {"training": {"epochs": 3}, "seeds": [-2]})
    with pytest.raises(InputError, match=f"^{second}: seeds.0: -2 is less than"):
        config.load(ROOT, given, [first, second])
    second.write_text("training: {epochs: 1}\ntraining: {epochs: 2}\n")
    with pytest.raises(InputError, match=f"^{second}:2: key training stands twice"):
        config.load(ROOT, given, [first, second])
    resolved = config.load(ROOT, merged(BASE, {"training": {"epochs": 3}}), [first])
    assert resolved.where("training.epochs") == str(first)


def test_nothing_on_the_command_line_is_empty_text():
    """`--config data_dir=` is None in Snakemake's hands."""
    assert load(data_dir=None, container=None)["data_dir"] == ""


def test_later_layers_win_and_are_named():
    resolved = load(training={"epochs": 3})
    assert resolved["training"]["epochs"] == 3
    assert resolved.where("training.epochs") == "command line"
    assert resolved.where("training.batch_size") == "config/presets/tiny.yaml"
    assert resolved.where("training.lora_rank") == "config/protocols/paper.yaml"
    assert resolved.where("data_seed") == "config.yaml"


@pytest.mark.parametrize("preset", PRESETS)
def test_config_yaml_sets_nothing_that_a_preset_or_protocol_sets(preset):
    """config.yaml wins over both, so a key in both places would make the preset's value dead."""
    mine = leaves(BASE)
    for path in (f"presets/{preset}", *(f"protocols/{name}" for name in PROTOCOLS)):
        assert not mine & leaves(yaml.safe_load((ROOT / "config" / f"{path}.yaml").read_text())), path


def over(key: str, values: list, *, name: str = "r", **more) -> dict:
    return {"ablations": {"over": {name: {"key": key, "values": values} | more}}}


def own(owner: str, **values: float) -> dict:
    return {"objective": {"hyperparameters": {owner: values}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bate": 1}, "command line: bate: unknown key"),
        ({"data": {"max_promt_chars": 5}}, r"data.max_promt_chars: 5 is not of type 'object'"),
        ({"training": {"epoch": 1}}, r"command line: training.epoch: unknown key \(did you mean epochs\?\)"),
        ({"grid": {"rewards": ["dpo", "exx"]}}, r"grid.rewards: unknown 'exx' \(did you mean exo\?\)"),
        ({"published": [{"name": "dpo-bt", "repo": "o/r"}]}, "published: dpo-bt is the name of other rows already"),
        ({"published": [{"name": "a", "repo": "o/r"}] * 2}, "published: a is the name of other rows already"),
        ({"published": [{"name": "a"}]}, "published.0.repo: is missing"),
        ({"publish": {"repo": "no-owner"}}, "publish.repo: 'no-owner' does not match"),
        ({"grid": {"losses": ["slic"]}}, "grid.losses: slic .* does not combine with"),
        ({"ablations": {"methods": ["dpo-hsp"]}}, r"ablations.methods: unknown 'dpo-hsp' \(did you mean dpo-hps"),
        ({"grid": {"datasets": ["hh_rlfh"]}}, r"grid.datasets: unknown 'hh_rlfh' \(did you mean hh_rlhf\?\)"),
        ({"grid": {"datasets": ["pku_saferlhf"]}}, "ablations.dataset: unknown 'hh_rlhf'; there are pku_saferlhf"),
        ({"training": {"lora_targets": ["qproj"]}}, "training.lora_targets: 'qproj' is no linear layer of a model"),
        ({"training": {"lora_targets": ["embed_tokens"]}}, "training.lora_targets: 'embed_tokens' is no linear layer"),
        ({"training": {"lora_targets": ["layers.4.mlp.up_proj"]}}, "training.lora_targets: 'layers.4.mlp.up_proj' is"),
        (over("training.lora_targets", [["q_proj"], ["x"]]), r"ablations.over.r.values: training.lora_targets: 'x' is"),
        ({"judge": {"method": "dpo-hsp"}}, r"judge.method: unknown 'dpo-hsp' \(did you mean dpo-hps"),
        ({"judge": {"baselines": ["sft", "dpo-hps"]}}, "judge.baselines: dpo-hps is judge.method itself"),
        ({"judge": {"samples": 6}}, "judge.samples: 6, but evaluation.samples gives 5"),
        ({"judge": {"key_variable": "my key"}}, "judge.key_variable: 'my key' does not match"),
        ({"judge": {"hub": {"repo": "o/m", "revision": ""}}}, "judge.hub: is a model, but with source true_reward"),
        ({"preset": "smollm2", "judge": {"hub": {"repo": "o/m"}}}, "judge.hub.revision: is missing"),
        ({"user_study": {"methods": ["sft", "dpo-hsp"]}}, "user_study.methods: unknown 'dpo-hsp'"),
        ({"seeds_of": {"dpo-btt": [0]}}, r"seeds_of: unknown 'dpo-btt' \(did you mean dpo-bt"),
        ({"seeds_of": {"dpo-bt": [0, 0]}}, r"seeds_of.dpo-bt: \[0, 0\] has non-unique elements"),
        ({"seeds_of": {"dpo-bt": [0, -1]}}, "seeds_of.dpo-bt.1: -1 is less than the minimum of 0"),
        ({"seeds_of": {"dpo-bt": [1]}}, "seeds_of: no seed stands in `seeds` and in each of its lists"),
        (
            {"user_study": {"prompts": 5}, "evaluation": {"sampled_prompts": 4}},
            "user_study.prompts: 5, but evaluation.sampled_prompts are fewer",
        ),
        ({"user_study": {"prompts": 500}}, "user_study.prompts: 500, but data.splits.test has fewer"),
        ({"user_study": {"ratings": "/nowhere"}}, "user_study.ratings: no folder /nowhere"),
        ({"objective": {"beta": 0}}, "command line: objective.beta: 0 is less than or equal to the minimum of 0"),
        ({"ablations": {"beta": [0.1, -1]}}, r"ablations.beta.1: -1 is less than"),
        (over("training.lora_rnk", [1]), r"ablations.over.r.key: no key .*lora_rank\?"),
        (over("training.lora_rank", [4, 0]), "ablations.over.r.values: training.lora_rank: 0 is less than"),
        (over("compute.dtype", ["x"]), "ablations.over.r.key: 'compute.dtype' does not"),
        (over("training.epochs", [1], name="g h"), "ablations.over: 'g h' does not match"),
        (over("training.epochs", [1], methods=["bt"]), "ablations.over.r.methods: unknown"),
        (
            {"grid": {"losses": ["hps_full"]}, "objective": {"negative": "mean_minus_2sd"}},
            "objective.negative: there is no one negative in hps_full",
        ),
        ({"grid": {"losses": ["hps_full"]}, "objective": {"gamma_levels": ["inf"]}}, "gamma_levels: inf .* hps_full"),
        ({"grid": {"n": 200}, "candidates": {"n": 100}}, "grid.n: 200 responses a prompt, but candidates.n gives 100"),
        ({"ablations": {"n": [5, 500]}, "candidates": {"n": 100}}, "ablations.n: 500 responses"),
        ({"training": {"batch_size": 3}, "compute": {"processes": 2}}, "training.batch_size: 3 does not divide"),
        ({"compute": {"tensor_parallel": 2}}, "compute.tensor_parallel: GPUs share a model in vllm alone"),
        (
            {"training": {"batch_size": 6}, "compute": {"processes": 3}},
            "command line: compute.processes: 3 needs config/accelerate/3.yaml, which is not there",
        ),
        ({"preset": "tyni"}, "command line: preset: no preset 'tyni'; there are"),
        ({"protocol": "papers"}, "protocol: no protocol 'papers'"),
        ({"training": {"epochs": 1.5}}, "training.epochs: 1.5 is not of type 'integer'"),
        ({"models": {"policy": {"source": "path", "path": "/nowhere"}}}, "models.policy.path: no folder /nowhere"),
        ({"models": {"reward": {"source": "hub"}}}, "models.reward.repo: is missing; source hub needs it"),
        ({"models": {"harm": PROBE}}, "models.harm.source: probe, but the toy world knows what is harmful"),
        (
            {"models": {"reward": {"split": ["reward", "eval_reward"]}}},
            "command line: models.reward.split: takes one split: only models.harm",
        ),
        ({"models": {"eval_reward": {"split": "test"}}}, "command line: models.eval_reward.split: 'test' is not"),
        ({"preset": "smollm2", "data_dir": "/nowhere"}, "command line: data_dir: no folder /nowhere"),
        ({"preset": "../presets/tiny"}, "command line: preset: no preset '../presets/tiny'; there are"),
        ({"protocol": "../protocols/paper"}, "protocol: no protocol"),
        ({"name": "../tiny"}, "command line: name: '../tiny' does not match"),
        ({"name": "tiny\n"}, "command line: name: 'tiny.*' does not match"),
        ({"name": "a" * 101}, "command line: name: 'a*' does not match"),
        ({"data": {"max_prompt_chars": 0}}, "command line: data.max_prompt_chars: 0 is less than"),
        ({"objective": float("inf")}, "command line.*: objective: inf is not a finite"),
        ({"theory": {"repetitions": "true"}}, "command line: theory.repetitions: "),
        ({"user_study": {"ratings": "x" * 2000}}, "command line: user_study.ratings: no folder x"),
        ({"name": "a b"}, "command line: name: 'a b' does not match"),
        ({"data": {"../x": {"format": "hh_rlhf", "files": {"train": [], "test": []}}}}, "data: '../x' does not match"),
        ({"seeds": [-1]}, "command line: seeds.0: -1 is less than"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate: nan is not a finite number"),
        ({"training": {"weight_decay": float("inf")}}, "training.weight_decay: inf is not a finite number"),
        ({"training": {"weight_decay": "1e999"}}, "training.weight_decay: inf is not a finite number"),
        ({"objective": {"gamma_levels": [float("nan")]}}, "objective.gamma_levels.0: nan is not a finite number"),
        ({"candidates": {"temperature": "nan"}}, "candidates.temperature: nan is not a finite number"),
        ({"evaluation": {"temperature": float("inf")}}, "evaluation.temperature: inf is not a finite number"),
        ({"claims": {"alpha": float("nan")}}, "claims.alpha: nan is not a finite number"),
        ({"training": {"epochs": "1.5"}}, "training.epochs: .* is not of type 'integer'"),
        ({"training": 5}, "training: 5 is not of type 'object'"),
        (
            {"objective": {"label_smoothing": {"dpo": 0.1}}},
            "label_smoothing: is now objective.hyperparameters",
        ),
        (
            own("dpo", label_smoothing=0.5),
            "dpo.label_smoothing: label_smoothing is 0.5 where at least 0",
        ),
        (own("dpo", smoothing=0.1), r"hyperparameters.dpo: unknown 'smoothing' \(did you mean label_smoothing"),
        (own("dpoo", label_smoothing=0.1), r"objective.hyperparameters: unknown 'dpoo' \(did you mean dpo"),
        (own("slic", margin=0), "hyperparameters.slic.margin: margin is 0 where more than 0"),
    ],
)
def test_bad_configuration_is_one_line_with_layer_and_key(changes, message):
    with pytest.raises(InputError, match=message) as caught:
        load(**changes)
    assert "\n" not in str(caught.value)


def test_any_key_of_objective_or_training_is_varied_by_configuration_alone():
    over = {
        "rank": {"key": "training.lora_rank", "values": ["4", 8], "methods": ["dpo-hps"]},
        "gamma": {"key": "objective.gamma_levels", "values": [[0], ["inf"]], "dataset": "pku_saferlhf"},
        "strength": {"key": "objective.beta", "values": [0.1, 0.5]},
    }
    resolved = load(ablations={"over": over}, seeds=[0], attribution={"datasets": "all"})
    found = grid.ablation_runs(resolved)
    assert {name: key for name, (key, _) in found.items()} == {name: given["key"] for name, given in over.items()}
    own, configured = found["rank"][1]
    assert configured in grid.grid_runs(resolved)  # trained once
    assert own.name == "dataset~hh_rlhf/method~dpo-hps_n~20_beta~0.1_seed~0_lora_rank~4"
    assert own.row == "dpo-hps lora_rank~4"
    assert Run.read(own.record(), "here") == own
    assert resolved.under(own)["training"]["lora_rank"] == 4
    assert resolved["training"]["lora_rank"] == 8
    assert [run.name.rpartition("_")[2] for run in found["gamma"][1]] == [
        "levels~0",
        "levels~0",
        "levels~inf",
        "levels~inf",
    ]
    assert {run.dataset for run in found["gamma"][1]} == {"pku_saferlhf"}
    assert set(found["strength"][1]) <= {*grid.grid_runs(resolved), *grid.beta_runs(resolved)}
    # uniform and hardest draws of HPS are those of Table A already
    assert len(grid.all_runs(resolved)) == 58 + 1 + 2


def test_judged_runs_are_those_of_the_grid():
    resolved = load(grid={"losses": ["bt", "hps"]}, seeds=[0, 1])
    judged = grid.judged_runs(resolved)
    assert [(run.method, run.dataset, run.seed, other and other.method) for run, other in judged[:2]] == [
        ("dpo-hps", "hh_rlhf", 0, None),
        ("dpo-hps", "hh_rlhf", 0, "dpo-bt"),
    ]
    assert len(judged) == 2 * 2 * 2  # data sets, seeds, and the baselines that the grid has
    assert all(other is None or (other.dataset, other.seed) == (run.dataset, run.seed) for run, other in judged)
    assert resolved["judge"]["samples"] == resolved["evaluation"]["samples"]  # preset tiny: all


def test_the_study_shows_the_methods_of_the_grid_at_the_first_seed():
    study = grid.study_runs(load(grid={"losses": ["bt", "hps"]}, seeds=[3, 1]))
    assert [(data, run and run.method) for data, run in study[:3]] == [
        ("hh_rlhf", None),
        ("hh_rlhf", "dpo-bt"),
        ("hh_rlhf", "dpo-hps"),
    ]
    assert len(study) == 2 * 3
    assert {run.seed for _, run in study if run} == {3}


def test_a_missing_data_file_is_named(tmp_path):
    with pytest.raises(InputError, match=f"data.hh_rlhf.files.test: no file {tmp_path}/hh-rlhf/harmless-base"):
        load(preset="smollm2", data_dir=str(tmp_path))


def test_the_environment_variable_stands_in_for_an_empty_data_dir(monkeypatch):
    monkeypatch.setenv("HPS_DATA_DIR", "/from/environment")
    with pytest.raises(InputError, match="no folder /from/environment"):
        load(preset="smollm2")


def test_another_seed_adds_the_whole_grid():
    runs = grid.all_runs(load(seeds=[0, 7]))
    assert len(runs) == 2 * 51
    assert Run("hh_rlhf", "dpo", "hps", 100, 0.1, 7) in runs


def test_methods_ablations_and_table_a_have_seeds_of_their_own():
    resolved = load(seeds_of={"dpo-bt": [0, 1, 2], "ablations": [0, 2], "attribution": [0, 3]})
    of_grid = grid.grid_runs(resolved)
    assert len(of_grid) == 30 + 2 * 2
    assert [run.seed for run in of_grid if (run.method, run.dataset) == ("dpo-bt", "pku_saferlhf")] == [0, 1, 2]
    for runs, seeds in (
        (grid.n_runs(resolved), {0, 2}),
        (grid.beta_runs(resolved), {0, 2}),
        (grid.attribution_runs(resolved), {0, 3}),
    ):
        assert all({other.seed for other in runs if replace(other, seed=run.seed) == run} == seeds for run in runs)
    every = grid.all_runs(resolved)
    assert len(every) == len(set(every))
    assert {Run("hh_rlhf", "dpo", "bt", 20, 0.1, seed) for seed in (0, 1, 2, 3)} <= set(every)
    assert list(Pipeline(resolved).sft.values()) == [0, 1, 2, 3]


def test_seeds_that_are_given_take_the_place_of_a_presets():
    assert load()["seeds_of"]["dpo-bt"] == [0, 1, 2, 3, 4]
    assert load(seeds=[7])["seeds_of"] == {}
    assert load(seeds_of={"dpo-pl": [0, 1]})["seeds_of"] == {"dpo-pl": [0, 1]}


def test_the_study_on_a_gpu_is_the_study_with_more_of_all_but_other_step_sizes():
    small, large = (yaml.safe_load((ROOT / f"config/{name}.yaml").read_text()) for name in ("study", "study_gpu"))
    mine, theirs = load(**merged(small, large)), load(**small)
    runs = grid.all_runs(mine)
    assert ({run.n for run in runs}, {run.seed for run in runs}) == ({32}, {0, 1, 2, 3, 4})
    assert {(run.method, run.settings) for run in runs} == {(run.method, run.settings) for run in grid.all_runs(theirs)}
    assert mine["training"] == theirs["training"]
    for split, wanted in theirs["data"]["splits"].items():
        assert mine["data"]["splits"][split]["prompts"] >= wanted["prompts"]
    assert len(Pipeline(mine).evaluation_jobs) == 24


def test_judge_and_study_compare_policies_of_one_seed():
    resolved = load(seeds=[0, 1], seeds_of={"dpo-hps": [1, 2], "dpo-bt": [1]})
    judged = grid.judged_runs(resolved)
    assert [(run.seed, other and other.method) for run, other in judged if run.dataset == "hh_rlhf"] == [
        (1, None), (1, "dpo-bt"), (1, "dpo-pl"), (2, None)
    ]  # fmt: skip
    assert all(other is None or other.seed == run.seed for run, other in judged)
    assert {run.seed for _, run in grid.study_runs(resolved) if run} == {grid.shared_seed(resolved)} == {1}


def test_what_snakemake_hands_over_as_text_is_read_by_type():
    """`--config 'training={epochs: 3}'` reaches the workflow with "3" as text."""
    given = {"training": {"epochs": "3", "learning_rate": "1e-4", "concatenate_epochs": "true"}}
    training = load(**given)["training"]
    assert (training["epochs"], training["learning_rate"], training["concatenate_epochs"]) == (3, 1e-4, True)
    assert load(ablations={"n": ["5", "10"]})["ablations"]["n"] == [5, 10]
    assert load(objective={"multiplicity": "1"})["objective"]["multiplicity"] == 1
    assert repr(load(training={"epochs": "1e2"}, seeds=[1.0])["training"]["epochs"]) == "100"


def test_text_stays_text_where_text_may_stand():
    models = {"policy": {"source": "hub", "repo": "owner/name", "revision": "1.0"}}
    assert load(models=models)["models"]["policy"]["revision"] == "1.0"
    assert load(objective={"gamma_levels": ["inf", "-5"]})["objective"]["gamma_levels"] == ["inf", -5]


def test_planning_needs_no_torch():
    """The Snakefile is read on login nodes and in jobs' wrappers, where torch is a second lost or not there at all."""
    words = (
        "import sys; sys.path.insert(0, 'workflow_scripts'); import hps.workflow.config; print('torch' in sys.modules)"
    )
    done = called("-c", words)
    assert done.stdout.strip() == "False"
