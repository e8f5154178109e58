"""The commands that build the small models, one after the other, as the workflow runs them."""

import build_tokenizer
import numpy as np
import pandas as pd
import pretrain
import pytest
import train_reward_model
from conftest import plum_pairs, sentence

from hps.data.schemas import PAIRS
from hps.logprobs import batches
from hps.models import sources
from hps.models.reward_model import RewardModel
from hps.support import files
from hps.support.errors import InputError
from hps.toyworld import true_reward

SMALL = {"hidden": 32, "layers": 2, "intermediate": 64, "positions": 128, "learning_rate": 1e-2}


def _pairs(path, count, seed):
    files.write_table(path, plum_pairs(count, seed), PAIRS)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tokenizer, policy and two reward models."""
    folder = tmp_path_factory.mktemp("commands")
    sft = [_pairs(folder / f"sft{i}.parquet", 40, i) for i in range(2)]
    build_tokenizer.main(build_tokenizer.Arguments(pairs=sft, vocab_size=300, out=str(folder / "tokenizer")))
    pretrain.main(
        pretrain.Arguments(
            role="policy", pairs=sft, tokenizer=str(folder / "tokenizer"), out=str(folder / "policy"), epochs=2, **SMALL
        )
    )
    for role, seed, more in (
        ("reward", 3, {"toy": True}),
        ("eval_reward", 4, {"lora_rank": 4, "dtype": "bfloat16", "max_length": 30}),
    ):
        pairs = [_pairs(folder / f"{role}.parquet", 100, seed)]
        train_reward_model.main(
            train_reward_model.Arguments(
                role=role,
                base=str(folder / "policy"),
                pairs=pairs,
                out=str(folder / role),
                epochs=3,
                learning_rate=1e-2,
                batch_size=8,
                seed=seed,
                **more,
            )
        )
    return folder


def test_pretrained_model_records_what_it_learned(folder):
    facts = files.read_json(folder / "policy" / "model.json")
    assert (facts["role"], facts["source"], facts["dtype"]) == ("policy", "scratch", "float32")
    assert facts["parameters"] == sources.parameters(sources.load_causal(folder / "policy"))
    metrics = facts["metrics"]
    assert metrics["held_out_conversations"] == 2 * 4  # 5 % of 80 prompts, both replies
    assert metrics["training_conversations"] == 2 * 76
    assert 0 < metrics["held_out_loss"] < 5.7  # less than the log of 300 tokens
    assert set(facts["provenance"]["inputs"]) == {
        str(folder / name) for name in ("sft0.parquet", "sft1.parquet", "tokenizer")
    }


def test_reward_models_record_their_accuracy_and_prefer_the_better_reply(folder):
    for role in ("reward", "eval_reward"):
        facts = files.read_json(folder / role / "model.json")
        assert facts["role"] == role
        assert facts["base"]["role"] == "policy"
        metrics = facts["metrics"]
        assert (metrics["training_pairs"], metrics["held_out_pairs"]) == (90, 10)
        assert metrics["held_out_accuracy_lo"] < metrics["held_out_accuracy"] <= metrics["held_out_accuracy_hi"]
        assert metrics["held_out_accuracy"] > 0.8
        model = RewardModel.load(folder / role)
        asked = [{"role": "user", "content": sentence(5, 3)}]
        better, worse = model.score([(asked, "take a plum"), (asked, "take a door")])
        assert better > worse


def test_rank_correlation_with_the_true_reward_is_that_of_the_held_out_replies(folder):
    facts = files.read_json(folder / "reward" / "model.json")
    rows = files.read_table(folder / "reward.parquet")
    kept_out = batches.held_out([row["prompt_id"] for row in rows], 0.1, 3)
    replies = [(r["messages"], r[c]) for r in rows if r["prompt_id"] in kept_out for c in ("chosen", "rejected")]
    scores = RewardModel.load(folder / "reward").score(replies)
    ranks = [pd.Series(values).rank() for values in (scores, [true_reward(*reply) for reply in replies])]
    expected = np.corrcoef(*ranks)[0, 1]
    assert facts["metrics"]["spearman_true_reward"] == pytest.approx(expected, abs=0.02)


def test_adapters_are_merged_and_the_length_limit_is_kept(folder):
    facts = files.read_json(folder / "eval_reward" / "model.json")
    assert facts["dtype"] == "bfloat16"
    assert facts["max_length"] == 30 == RewardModel.load(folder / "eval_reward").max_length
    assert facts["metrics"]["truncated"] > 0
    assert "spearman_true_reward" not in facts["metrics"]
    assert not [name for name in sources.tensor_shapes(folder / "eval_reward") if "lora" in name]
    reward = files.read_json(folder / "reward" / "model.json")
    assert reward["max_length"] == 128  # the model's own, less than the default


def test_too_few_pairs_and_too_small_models_are_refused(folder, tmp_path):
    one = _pairs(tmp_path / "one.parquet", 1, 9)
    arguments = {"role": "policy", "tokenizer": str(folder / "tokenizer"), "out": str(tmp_path / "out")}
    with pytest.raises(InputError, match="1 pairs are too few"):
        pretrain.main(pretrain.Arguments(pairs=[one], learning_rate=1e-2, **arguments))
    with pytest.raises(InputError, match="--positions: 4 is less than the longest conversation"):
        pretrain.main(
            pretrain.Arguments(pairs=[str(folder / "sft0.parquet")], **(arguments | SMALL | {"positions": 4}))
        )
    given = {"role": "reward", "base": str(folder / "policy"), "out": str(tmp_path), "learning_rate": 1e-2}
    with pytest.raises(InputError, match="too few"):
        train_reward_model.main(train_reward_model.Arguments(pairs=[one], **given))
    with pytest.raises(InputError, match="--vocab-size"):
        build_tokenizer.main(build_tokenizer.Arguments(pairs=[one], vocab_size=100, out=str(tmp_path / "out")))
    assert [path.name for path in tmp_path.iterdir()] == ["one.parquet"]
