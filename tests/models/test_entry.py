"""What a model must be to enter a run: each fault is one line that names the folder, and the file or tensor."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from conftest import without_hashes
from safetensors.torch import load_file, save_file

from hps.models import entry, fetch, reward_training, sources
from hps.models.reward_model import RewardModel
from hps.support import files, provenance
from hps.support.errors import InputError

QUERY = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def given(model_folder, tmp_path) -> Path:
    """Somebody's model folder, to damage."""
    return Path(shutil.copytree(model_folder, tmp_path / "given"))


@pytest.fixture(scope="module")
def reward_folder(model_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reward") / "reward"
    model = reward_training.new_reward_model(model_folder, "float32", seed=1)
    sources.save(folder, model, sources.load_tokenizer(model_folder), {"role": "reward"})
    return folder


def entered(given: Path, role: str = "policy") -> Path:
    out = given.with_name("out")
    fetch.from_path(out, {"role": role}, given)
    return out


def refused(given: Path, message: str, role: str = "policy") -> None:
    """Refused in one line, which names the folder that was given, and nothing is left behind."""
    with pytest.raises(InputError, match=message) as error:
        entered(given, role)
    assert "\n" not in str(error.value)
    assert str(given) in str(error.value)
    assert ".partial" not in str(error.value)
    assert [path.name for path in given.parent.iterdir()] == [given.name]


def tensors(folder: Path, change) -> None:
    found = load_file(folder / "model.safetensors")
    change(found)
    save_file(found, folder / "model.safetensors", {"format": "pt"})


def configuration(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def test_the_report_stands_in_model_json(given):
    facts = files.read_json(entered(given) / "model.json")
    assert facts["check"]["tensors"] == len(load_file(given / "model.safetensors"))
    assert facts["check"]["positions"] == 512
    assert facts["files"]["model.safetensors"] == files.sha256(given / "model.safetensors")


def renamed(found):
    for name in list(found):
        found[f"other.{name}"] = found.pop(name)


TENSORS = {
    "one missing": (lambda found: found.pop(QUERY), {}, rf"1 missing \({QUERY}\)"),
    "one too many": (lambda found: found.update(more=torch.zeros(2)), {}, r"1 unexpected \(more\)"),
    "all renamed": (renamed, {}, r"21 missing \(.*\.\.\.\); 20 unexpected \(other"),
    "a layer more": (None, {"num_hidden_layers": 3}, r"9 missing \(model\.layers\.2\."),
    "a layer less": (None, {"num_hidden_layers": 1}, r"9 unexpected \(model\.layers\.1\."),
    "other sizes": (None, {"intermediate_size": 48}, r"6 of another size \(.*\(\[32, 64\], expected \[32, 48\]\)"),
    "untied": (None, {"tie_word_embeddings": False}, r"1 missing \(lm_head\.weight\)"),
    "another architecture": (None, {"model_type": "gpt2"}, r"29 missing \(.*\); 20 unexpected"),
}


@pytest.mark.parametrize(("change", "config", "message"), TENSORS.values(), ids=TENSORS)
def test_tensors_that_are_not_those_of_the_configuration(given, change, config, message):
    """At fetching, and again by whoever loads such a folder."""
    if change:
        tensors(given, change)
    configuration(given, **config)
    refused(given, f"its tensors are not those of its config.json: {message}")
    with pytest.raises(InputError, match=message):
        sources.load_causal(given, device="cpu")


def test_a_reward_model_with_a_tensor_missing(reward_folder, tmp_path):
    given = Path(shutil.copytree(reward_folder, tmp_path / "given"))
    tensors(given, lambda found: found.pop(QUERY))
    refused(given, rf"1 missing \({QUERY}\)", role="reward")
    with pytest.raises(InputError, match=rf"1 missing \({QUERY}\)"):
        RewardModel.load(given, device="cpu")
    with pytest.raises(InputError, match=rf"1 missing \({QUERY}\)"):  # as a base only the head may be new
        reward_training.new_reward_model(given, "float32", seed=0)


def test_a_reward_model_enters_and_may_keep_a_language_models_head(reward_folder, tmp_path):
    given = Path(shutil.copytree(reward_folder, tmp_path / "given"))
    tensors(given, lambda found: found.update({"lm_head.weight": torch.zeros(320, 32)}))
    assert files.read_json(entered(given, "reward") / "model.json")["check"]["whole_conversation"] == "same"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_that_are_not_finite(given, value, dtype):
    def change(found):
        found |= {name: tensor.to(dtype) for name, tensor in found.items()}
        found[QUERY][3, 5] = value

    tensors(given, change)
    refused(given, rf"given/model\.safetensors: tensor {QUERY} holds values that are not finite")


CONFIGURATIONS = {
    "empty": ("{}", "transformers cannot load the model"),
    "no JSON": ("{", "transformers cannot load the model"),
    "a list": ("[]", "transformers cannot load the model"),
    "an unknown architecture": ('{"model_type": "nothing"}', "transformers cannot load the model"),
    "code": (
        '{"model_type": "x", "auto_map": {"AutoConfig": "own.C", "AutoModelForCausalLM": "own.M"}}',
        "transformers cannot load the model .*custom code",
    ),
}


@pytest.mark.parametrize(("text", "message"), CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_a_configuration_that_is_none(given, text, message):
    (given / "config.json").write_text(text)
    (given / "own.py").write_text("raise SystemExit('code of the folder was run')")
    refused(given, message)


def test_wrong_values_in_a_configuration(given):
    configuration(given, num_attention_heads=5)
    refused(given, "hidden size .* is not a multiple of the number of attention heads")


def test_a_length_that_nobody_knows(given):
    configuration(given, max_position_embeddings=-1)
    refused(given, r"config\.json: max_position_embeddings is not known")


def test_a_tokenizer_beyond_the_embedding(given):
    tokenizer = sources.load_tokenizer(given)
    tokenizer.add_tokens(["plumbread"])
    tokenizer.save_pretrained(given)
    refused(given, "1 tokens of the tokenizer are beyond the 320 rows of the embedding, the first 'plumbread'")
    tokenizer.chat_template = tokenizer.chat_template.replace("eos_token", "'<more>'")
    tokenizer.add_special_tokens({"extra_special_tokens": ["<more>"]})
    tokenizer.save_pretrained(given)
    vocabulary = json.loads((given / "tokenizer.json").read_text())
    vocabulary["added_tokens"] = [token for token in vocabulary["added_tokens"] if token["content"] != "plumbread"]
    vocabulary["added_tokens"][-1]["id"] = 320
    (given / "tokenizer.json").write_text(json.dumps(vocabulary))
    refused(given, "the chat template writes '<more>', beyond the 320 rows")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"model": {"type": "BPE"}}'])
def test_a_broken_tokenizer(given, text):
    (given / "tokenizer.json").write_text(text)
    refused(given, "transformers cannot load the tokenizer")


LOOP = "{% for i in range(9999) %}" * 4 + "{% endfor %}" * 4
TEMPLATES = {
    "loops": (LOOP, "the chat template takes more than 1 s for four short turns"),
    "computes": (
        "{{ 9 ** (9 ** (messages | length + 5)) }}",
        "the chat template takes more than 1 s for four short turns",
    ),
    "is large": ("{{ 'x' * 10 ** 12 }}", "the chat template refuses the turns"),
    "is broken": ("{% for %}", "the chat template refuses the turns"),
    "has no end": ("{% for m in messages %}{{ m['content'] }}{% endfor %}", "ends an assistant's turn with nothing"),
}


@pytest.mark.parametrize(("template", "message"), TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_that_cannot_render_a_conversation(given, monkeypatch, template, message):
    monkeypatch.setattr(entry, "SECONDS", 1)
    (given / "chat_template.jinja").write_text(template)
    refused(given, message)


SPECIAL = {
    "a pipe": (lambda path: os.mkfifo(path), "is a special file"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere.safetensors"), "leads nowhere"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "leads nowhere"),
}


@pytest.mark.parametrize(("make", "message"), SPECIAL.values(), ids=SPECIAL)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"])
def test_files_that_cannot_be_opened(given, name, make, message):
    (given / name).unlink()
    make(given / name)
    refused(given, rf"{name}.* {message}")
    for load in (sources.load_causal, sources.load_tokenizer):
        with pytest.raises(InputError, match=message):
            load(given)


def test_links_that_lead_to_files_are_fine(given, tmp_path):
    (given / "model.safetensors").rename(tmp_path / "weights")
    (given / "model.safetensors").symlink_to(tmp_path / "weights")
    assert sources.load_causal(entered(given), device="cpu")


# --- contents ---------------------------------------------------------------------------------------------------------


def overwrite(path: Path, keep_times: bool = False) -> None:
    """Other weights of the same shapes, in place."""
    stat = path.stat()
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    if keep_times:
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("keep_times", [False, True])
def test_weights_overwritten_in_place_are_noticed(given, keep_times):
    out = entered(given)
    before = provenance.fingerprint(out)
    assert before["model.safetensors"] == files.sha256(given / "model.safetensors")
    overwrite(given / "model.safetensors", keep_times)
    message = rf"{out}/model\.safetensors: has other contents than when model\.json was written"
    for use in (sources.load_causal, sources.load_tokenizer, provenance.fingerprint):
        with pytest.raises(InputError, match=message):
            use(out)
    shutil.rmtree(out)
    assert provenance.fingerprint(entered(given)) != before


def test_weights_of_a_reward_model_overwritten_in_place_are_noticed(reward_folder, tmp_path):
    given = Path(shutil.copytree(reward_folder, tmp_path / "given"))
    out = entered(given, "reward")
    overwrite(given / "model.safetensors")
    with pytest.raises(InputError, match="has other contents"):
        RewardModel.load(out, device="cpu")


def test_files_that_were_only_touched_or_copied_are_the_same(given, tmp_path):
    out = entered(given)
    os.utime(given / "model.safetensors")
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    assert provenance.fingerprint(copy) == provenance.fingerprint(out)
    assert sources.load_causal(copy, device="cpu")


def test_a_file_that_is_gone_is_noticed(given):
    out = entered(given)
    (given / "tokenizer_config.json").unlink()
    with pytest.raises(InputError, match=r"out/tokenizer_config\.json"):
        provenance.fingerprint(out)


def test_the_fingerprint_of_a_model_does_not_depend_on_when_it_was_fetched(given):
    first = provenance.fingerprint(entered(given))
    shutil.rmtree(given.with_name("out"))
    assert provenance.fingerprint(entered(given)) == first


def test_a_folder_without_hashes_is_taken_as_it_is(given):
    overwrite(without_hashes(given) / "model.safetensors")
    assert sources.load_causal(given, device="cpu")
    assert set(provenance.fingerprint(given)) == {"model.json"}
