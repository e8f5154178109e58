"""Adapters: where they may go, and a saved one that loads wherever it is taken."""

import json
import shutil

import pytest
import torch
from peft import PeftModel

from hps.models import adapters
from hps.models.sources import load_causal
from hps.support.errors import InputError
from hps.support.files import read_json, write_json

Q, V = "q_proj", "v_proj"


@pytest.mark.parametrize(
    ("targets", "line"),
    [
        ([Q, "qproj_misspelt"], "'qproj_misspelt' is no module of LlamaForCausalLM; linear are .*'q_proj'"),
        (["nope"], "'nope' is no module"),
        (["proj"], "'proj' is no module"),
        ([Q, ""], "'' is no module"),
        ([Q, "lm_head"], "'lm_head' is the embeddings or the output head, which take no adapter"),
        (["embed_tokens"], "'embed_tokens' is the embeddings or the output head"),
        ([Q, "input_layernorm"], "'input_layernorm' is no linear layer: .* is a LlamaRMSNorm"),
        (["self_attn"], "'self_attn' is no linear layer"),
        ([], r"\[\] where names of modules are expected, or all-linear alone"),
        (["all-linear", Q], r"\['all-linear', 'q_proj'\] where names of modules are expected"),
    ],
)
def test_each_target_must_be_a_linear_layer_of_the_decoder(model_folder, targets, line):
    with pytest.raises(InputError, match=f"^training.lora_targets: {line}"):
        adapters.check_targets(adapters.skeleton(model_folder), targets)


@pytest.mark.parametrize("targets", [[Q, V], ["layers.0.self_attn.q_proj"], ["mlp.up_proj", Q]])
def test_ends_of_names_are_targets(model_folder, targets):
    adapters.check_targets(adapters.skeleton(model_folder), targets)


def test_all_linear_adapts_each_linear_layer_and_not_the_head(model_folder):
    adapted = adapters.with_adapter(load_causal(model_folder), 2, 4, ["all-linear"], model_folder)
    names = {name.split(".lora_A")[0].rpartition(".")[2] for name, _ in adapted.named_parameters() if "lora_A" in name}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.mark.parametrize(
    ("facts", "name", "revision"),
    [
        ({"role": "policy", "source": "hub", "repo": "owner/model", "commit": "0123abc"}, "owner/model", "0123abc"),
        ({"role": "policy", "source": "scratch"}, "scratch:policy", None),
    ],
)
def test_a_saved_adapter_names_its_base_and_loads_from_anywhere(
    model_folder, tmp_path, monkeypatch, facts, name, revision
):
    base = tmp_path / "base"
    shutil.copytree(model_folder, base)
    write_json(base / "model.json", facts)
    torch.manual_seed(0)
    adapted = adapters.with_adapter(load_causal(base, dtype=torch.float32), 2, 4, [Q, V], base)
    with torch.no_grad():
        for parameter in adapted.parameters():
            parameter += 0.01 * parameter.requires_grad
    adapted.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    saved = (tmp_path / "adapter").rename(tmp_path / "elsewhere")
    config = read_json(saved / "adapter_config.json")
    assert (config["base_model_name_or_path"], config["revision"]) == (name, revision)
    assert str(tmp_path) not in json.dumps(config)
    ids = torch.tensor([[5, 6, 7, 8]])
    expected = adapted(ids).logits
    monkeypatch.chdir("/")
    for load in (adapters.load_adapter, PeftModel.from_pretrained):
        assert torch.equal(load(load_causal(base, dtype=torch.float32), saved).eval()(ids).logits, expected)


def test_a_saved_adapter_lists_its_modules_in_one_order_in_every_process(model_folder, tmp_path):
    adapted = adapters.with_adapter(load_causal(model_folder), 2, 4, [adapters.ALL_LINEAR], model_folder)
    adapted.save_pretrained(tmp_path, save_embedding_layers=False)
    modules = read_json(tmp_path / "adapter_config.json")["target_modules"]
    assert modules == sorted(modules)
    assert len(modules) == 2 * 7


def test_half_an_adapter_is_one_line(model_folder, tmp_path):
    adapters.with_adapter(load_causal(model_folder), 2, 4, [Q], model_folder).save_pretrained(
        tmp_path / "adapter", save_embedding_layers=False
    )
    weights = tmp_path / "adapter/adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(InputError, match=f"^{tmp_path}/adapter: not an adapter of this model") as error:
        adapters.load_adapter(load_causal(model_folder), tmp_path / "adapter")
    assert "\n" not in str(error.value)
