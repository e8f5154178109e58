"""The command `evaluate`: one model in memory at a time, and the same numbers for an adapter and its merged weights."""

import json
import math
import shutil
import weakref

import evaluate
import pytest
import stage_files
import torch
from peft import LoraConfig, get_peft_model

from hps.data import stages
from hps.data.schemas import PAIRS
from hps.evidence import results
from hps.judge.comparisons import read_policy
from hps.models import reward_training, sources
from hps.models.reward_model import RewardModel
from hps.runs import Run
from hps.support import provenance
from hps.support.errors import InputError
from hps.support.files import read_json, read_table, sha256, write_json


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model_folder):
    """An adapter far from its reference, the same policy with all its weights, and a reward model."""
    root = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    policy = get_peft_model(sources.load_causal(model_folder, dtype=torch.float32), config)
    policy.save_pretrained(root / "adapter")
    policy.merge_and_unload().save_pretrained(root / "full")
    for trained in ("adapter", "full"):
        run = Run("hh_rlhf", "dpo", "hps", 4, 0.1, 0)
        write_json(root / f"{trained}.json", {"run": run.record(), "policy": provenance.fingerprint(root / trained)})
    reward = reward_training.new_reward_model(model_folder, "float32", seed=1)
    sources.save(root / "reward", reward, sources.load_tokenizer(model_folder), {"role": "reward"})
    harm = reward_training.new_reward_model(model_folder, "float32", seed=2)
    made = {"role": "harm", "source": "probe", "metrics": {"held_out_accuracy": 0.8}}
    sources.save(root / "harm", harm, sources.load_tokenizer(model_folder), made)
    return root


@pytest.fixture(scope="module")
def files(tmp_path_factory, model_folder):
    return stage_files.make(tmp_path_factory.mktemp("stages"), model_folder, prompts=3)


def arguments(files, model_folder, folders, trained: str, out) -> evaluate.Arguments:
    return evaluate.Arguments(
        test_sets=["hh_rlhf"],
        **{name: [files[name]] for name in ("pairs", "examples")},
        policy=str(model_folder),
        eval_reward=str(folders / "reward"),
        reward_output="gated",
        reward_system_turn="keep",
        samples=2,
        temperature=0.9,
        max_new_tokens=6,
        pick="per_metric",
        bleu_reference="chosen",
        truncated="keep",
        sequences=8,
        score_tokens=512,
        policies=[policy(folders, trained, out)],
    )


def policy(folders, kind: str, out, **changes) -> str:
    of_run = {"trained": str(folders / kind), "training": str(folders / f"{kind}.json")} if kind else {}
    return json.dumps({"seed": 0, "test_sets": ["hh_rlhf"], "out": str(out)} | of_run | changes)


@pytest.mark.parametrize("trained", ["", "adapter", "full"])
def test_one_model_is_in_memory_at_a_time(files, model_folder, folders, tmp_path, monkeypatch, trained):
    loaded = []

    def watched(load):
        def loading(*given, **options):
            assert all(earlier() is None for earlier in loaded)
            model = load(*given, **options)
            loaded.append(weakref.ref(model.model if isinstance(model, RewardModel) else model))
            return model

        return loading

    monkeypatch.setattr(sources, "load_causal", watched(sources.load_causal))
    monkeypatch.setattr(RewardModel, "load", watched(RewardModel.load))
    words = arguments(files, model_folder, folders, trained, tmp_path / "out")
    words.harm = str(folders / "harm")
    evaluate.main(words)
    assert len(loaded) == {"": 3, "adapter": 3, "full": 4}[trained]


def test_an_adapter_and_its_merged_weights_are_worth_the_same(files, model_folder, folders, tmp_path):
    rows = {}
    for trained in ("adapter", "full"):
        evaluate.main(arguments(files, model_folder, folders, trained, tmp_path / trained))
        table = read_table(tmp_path / trained / "hh_rlhf/per_prompt.parquet")
        rows[trained] = [{name: value for name, value in row.items() if isinstance(value, float)} for row in table]
    assert len(rows["full"]) == 3
    for adapted, merged in zip(rows["adapter"], rows["full"], strict=True):
        assert adapted == pytest.approx(merged, rel=1e-3)
        assert adapted["kl"] > 0.01
        assert abs(adapted["margin_human"]) > 0.01


def test_the_sft_policy_has_no_margin_and_no_kl(files, model_folder, folders, tmp_path):
    evaluate.main(arguments(files, model_folder, folders, "", tmp_path / "out"))
    rows = read_table(tmp_path / "out/hh_rlhf/per_prompt.parquet")
    assert {row[name] for row in rows for name in ("kl", "margin_human", "log_ratio_chosen_annotated")} == {None}
    assert all(row["reward"] is not None for row in rows)


def test_prompts_that_are_not_sampled_have_margins_and_kl(files, model_folder, folders, tmp_path):
    all_of_them = arguments(files, model_folder, folders, "adapter", tmp_path / "all")
    part = arguments(files, model_folder, folders, "adapter", tmp_path / "part")
    part.sampled_prompts = 2
    evaluate.main(all_of_them), evaluate.main(part)
    expected, rows = (read_table(tmp_path / name / "hh_rlhf/per_prompt.parquet") for name in ("all", "part"))
    expected[2] |= dict.fromkeys(("bleu_word", "bleu_char", "reward", "reward_mean", "refusals", "length"))
    sampled = {row["prompt_id"] for row in rows[:2]}
    for row, other in zip(rows, expected, strict=True):
        assert row.pop("prompt_id") == other.pop("prompt_id")
        # Within rounding, since the reward model's batches are others.
        assert {name: math.nan if value is None else value for name, value in row.items()} == pytest.approx(
            {name: math.nan if value is None else value for name, value in other.items()}, rel=1e-5, nan_ok=True
        )
    samples = read_table(tmp_path / "part/hh_rlhf/samples.parquet")
    assert {row["prompt_id"] for row in samples} == sampled


def test_a_model_in_role_harm_is_loaded_after_the_others_and_recorded(files, model_folder, folders, tmp_path):
    words = arguments(files, model_folder, folders, "", tmp_path / "out")
    words.harm = str(folders / "harm")
    evaluate.main(words)
    samples = read_table(tmp_path / "out/hh_rlhf/samples.parquet")
    assert all(row["harmful"] == (row["harm_score"] > 0) for row in samples)
    assert len({row["harm_score"] for row in samples}) > 1
    rows = read_table(tmp_path / "out/hh_rlhf/per_prompt.parquet")
    assert {row["needless_refusals"] for row in rows} == {None}
    for row in rows:
        own = [sample["harmful"] for sample in samples if sample["prompt_id"] == row["prompt_id"]]
        assert row["harm"] == sum(own) / 2
    summary = read_json(tmp_path / "out/hh_rlhf/evaluation.json")
    assert summary["harm"] == {"source": "probe", "metrics": {"held_out_accuracy": 0.8}}
    assert words.harm in str(summary["provenance"]["inputs"])


def test_without_one_harm_is_not_known_unless_the_world_is_a_toy(files, model_folder, folders, tmp_path):
    for toy, known in ((False, None), (True, {"source": "toy"})):
        words = arguments(files, model_folder, folders, "", tmp_path / str(toy))
        words.toy = toy
        evaluate.main(words)
        harms = {row["harm"] for row in read_table(tmp_path / str(toy) / "hh_rlhf/per_prompt.parquet")}
        assert harms == ({0.0} if toy else {None})
        assert read_json(tmp_path / str(toy) / "hh_rlhf/evaluation.json")["harm"] == known


def test_a_policys_files_do_not_depend_on_those_beside_it(files, model_folder, folders, tmp_path, monkeypatch):
    """The SFT policy, two adapters with other seeds, and full weights: one by one, and in one job."""
    kinds = [("", 3), ("adapter", 0), ("full", 0), ("adapter", 1)]
    loads = []
    load = sources.load_causal
    monkeypatch.setattr(sources, "load_causal", lambda *given, **more: loads.append(given) or load(*given, **more))
    together = arguments(files, model_folder, folders, "", "")
    together.policies = [policy(folders, kind, tmp_path / f"together{i}", seed=s) for i, (kind, s) in enumerate(kinds)]
    evaluate.main(together)
    assert len(loads) == 2  # the policy before training, and the full weights
    for i, (kind, seed) in enumerate(kinds):
        alone = arguments(files, model_folder, folders, "", "")
        alone.policies = [policy(folders, kind, tmp_path / f"alone{i}", seed=seed)]
        evaluate.main(alone)
        own, beside = (tmp_path / name / "hh_rlhf" for name in (f"alone{i}", f"together{i}"))
        for name in ("per_prompt.parquet", "samples.parquet"):
            assert (own / name).read_bytes() == (beside / name).read_bytes()
        facts = [read_json(folder / "evaluation.json") for folder in (own, beside)]
        for one in facts:
            del one["provenance"]["time"], one["provenance"]["settings"]["out"]
        assert facts[0] == facts[1]


@pytest.mark.parametrize("kind", ["adapter", "full"])
def test_a_policy_of_others_is_measured_as_one_of_ours(files, model_folder, folders, tmp_path, kind):
    theirs = tmp_path / "theirs"
    shutil.copytree(folders / kind, theirs)
    write_json(theirs / "model.json", {"role": "published", "repo": "owner/hps", "commit": "c0ffee", "files": {}})
    ours, other = (arguments(files, model_folder, folders, kind, tmp_path / name) for name in ("ours", "other"))
    other.policies = [
        policy(folders, "", tmp_path / "other", trained=str(theirs), published="authors"),
        policy(folders, "", tmp_path / "sft"),
    ]
    evaluate.main(ours), evaluate.main(other)
    tables = [read_table(tmp_path / name / "hh_rlhf/per_prompt.parquet") for name in ("ours", "other")]
    assert tables[0] == tables[1]
    facts, sft = (read_json(tmp_path / name / "hh_rlhf/evaluation.json") for name in ("other", "sft"))
    assert (facts["run"], facts["responses"]) == (None, None)
    assert facts["published"] == {"name": "authors", "repo": "owner/hps", "commit": "c0ffee"}
    assert str(theirs) in facts["provenance"]["inputs"]
    assert sft["published"] is None
    read = results.read_evaluation(tmp_path / "other/hh_rlhf")
    assert (read.method, read.run, read.transfer) == ("authors", None, False)
    assert read_policy(tmp_path / "other/hh_rlhf", samples=2).name == "authors"


def test_a_policy_of_others_whose_files_changed_is_refused(files, model_folder, folders, tmp_path):
    theirs = tmp_path / "theirs"
    shutil.copytree(folders / "adapter", theirs)
    name = "adapter_model.safetensors"
    write_json(theirs / "model.json", {"repo": "owner/hps", "commit": "c0ffee", "files": {name: sha256(theirs / name)}})
    (theirs / name).write_bytes((theirs / name).read_bytes()[:-1] + b"x")
    words = arguments(files, model_folder, folders, "", tmp_path / "out")
    words.policies = [policy(folders, "", tmp_path / "out", trained=str(theirs), published="authors")]
    with pytest.raises(InputError, match=f"theirs/{name}: has other contents than when model.json was written"):
        evaluate.main(words)


def of_another_policy(files, folders, words):
    words.policy = str(folders / "reward")


def of_other_pairs(files, folders, words):
    words.pairs = [files["other"]]


def a_training_that_is_none(files, folders, words):
    words.policies = [policy(folders, "adapter", "out", training=str(folders / "adapter/adapter_config.json"))]


def another_policy_than_was_saved(files, folders, words):
    words.policies = [policy(folders, "adapter", "out", trained=str(folders / "full"))]


def a_policy_that_is_gone(files, folders, words):
    words.policies = [policy(folders, "adapter", "out", trained=str(folders / "gone"))]


@pytest.mark.parametrize(
    ("break_it", "line"),
    [
        (of_another_policy, r"examples: was not made from .*reward as it is now"),
        (of_other_pairs, r"examples: was not made from .*other.parquet as it is now"),
        (a_training_that_is_none, r"adapter_config.json: run must have the fields"),
        (another_policy_than_was_saved, r"full: is not the policy that .*adapter.json says was saved"),
        (a_policy_that_is_gone, r"gone: no such file or folder"),
    ],
)
def test_what_does_not_belong_together_is_refused_before_anything_is_sampled(
    files, model_folder, folders, tmp_path, monkeypatch, break_it, line
):
    other = tmp_path / "other.parquet"
    stages.write(other, read_table(files["pairs"])[:2], PAIRS)
    words = arguments(files, model_folder, folders, "adapter", tmp_path / "out")
    break_it(files | {"other": str(other)}, folders, words)
    monkeypatch.setattr(evaluate, "load_model", lambda *given: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=line):
        evaluate.main(words)
    assert not (tmp_path / "out").exists()
