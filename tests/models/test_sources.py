"""A model folder is checked before it is loaded: pickles, damaged files and missing parts are refused by name."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hps.models import sources
from hps.support import files
from hps.support.errors import InputError


@pytest.fixture
def folder(model_folder, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def test_saved_folder_says_what_it_is(model_folder):
    facts = files.read_json(model_folder / "model.json")
    model = sources.load_causal(model_folder)
    assert facts == {
        "role": "policy",
        "source": "scratch",
        "parameters": sources.parameters(model),
        "dtype": "float32",
        "files": {p.name: files.sha256(p) for p in sorted(model_folder.iterdir()) if p.name != "model.json"},
    }
    assert (model_folder / "model.safetensors").is_file()


def test_loading_keeps_or_casts_the_dtype(model_folder):
    assert sources.load_causal(model_folder, device="cpu").dtype == torch.float32
    model = sources.load_causal(model_folder, dtype="bfloat16", device="cpu")
    assert model.dtype == torch.bfloat16
    assert not model.training
    assert model.config._attn_implementation == "sdpa"


def test_a_missing_folder_and_one_without_config(tmp_path):
    with pytest.raises(InputError, match="no such model folder"):
        sources.load_causal(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.json"):
        sources.load_causal(tmp_path)


def test_pickled_weights_are_refused(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pickled \(pytorch_model\.bin\), which is refused"):
        sources.load_causal(folder)


def test_no_weights_at_all(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="has no weights"):
        sources.load_causal(folder)


def test_a_truncated_file_is_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file"):
        sources.load_causal(folder)


def test_a_missing_shard_is_named(folder):
    shards = {"a": "model-1.safetensors", "b": "model.safetensors"}
    (folder / sources.INDEX).write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(InputError, match=r"model-1\.safetensors, which is not there"):
        sources.weight_files(folder)
    (folder / sources.INDEX).write_text("{}")
    with pytest.raises(InputError, match="has no weight_map"):
        sources.weight_files(folder)


def test_shards_of_the_index_only(folder):
    save_file({"x": torch.zeros(3)}, folder / "other.safetensors")
    (folder / sources.INDEX).write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    assert [path.name for path in sources.weight_files(folder)] == ["model.safetensors"]


def test_size_counts_what_the_headers_say(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    tensors = {"a": torch.zeros(2, 3, dtype=torch.bfloat16), "b": torch.zeros(4)}
    save_file(tensors, tmp_path / "model.safetensors")
    assert sources.tensor_shapes(tmp_path) == {"a": (2, 3), "b": (4,)}
    assert sources.size(tmp_path) == {"parameters": 10, "dtype": "bfloat16"}


def test_tokenizer_missing_or_without_template(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="no chat template"):
        sources.load_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="no tokenizer"):
        sources.load_tokenizer(folder)


def test_a_causal_model_has_no_reward_head(model_folder):
    with pytest.raises(InputError, match="not a reward model"):
        sources.reward_head(model_folder)


def test_a_failed_saving_leaves_what_was_there(model_folder, tmp_path):
    out = tmp_path / "model"
    shutil.copytree(model_folder, out)
    with pytest.raises(InputError), sources.saving(out, {"role": "policy"}) as partial:
        (partial / "config.json").write_text("{}")  # but no weights
    assert sources.size(out) == sources.size(model_folder)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
