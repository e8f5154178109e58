"""The command `evaluate`: one model in memory at a time, and the same numbers for an adapter and its merged weights."""

import weakref

import evaluate
import pytest
import stage_files
import torch
from peft import LoraConfig, get_peft_model

from hps.models import reward_training, sources
from hps.models.reward_model import RewardModel
from hps.support.files import read_table


@pytest.fixture(scope="module")
def folders(tmp_path_factory, model_folder):
    """An adapter far from its reference, the same policy with all its weights, and a reward model."""
    root = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    policy = get_peft_model(sources.load_causal(model_folder, dtype=torch.float32), config)
    policy.save_pretrained(root / "adapter")
    policy.merge_and_unload().save_pretrained(root / "full")
    reward = reward_training.new_reward_model(model_folder, "float32", seed=1)
    sources.save(root / "reward", reward, sources.load_tokenizer(model_folder), {"role": "reward"})
    return root


@pytest.fixture(scope="module")
def files(tmp_path_factory, model_folder):
    return stage_files.make(tmp_path_factory.mktemp("stages"), model_folder, prompts=3)


def arguments(files, model_folder, folders, trained: str, out) -> evaluate.Arguments:
    return evaluate.Arguments(
        test_sets=["hh_rlhf"],
        **{name: [files[name]] for name in ("pairs", "candidates", "scored", "reference")},
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
        seed=0,
        sequences=8,
        score_tokens=512,
        trained=trained and str(folders / trained),
        out=str(out),
    )


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
    evaluate.main(arguments(files, model_folder, folders, trained, tmp_path / "out"))
    assert len(loaded) == {"": 2, "adapter": 2, "full": 3}[trained]


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
