"""Policies that others trained: adapters on the policy's base, models with its vocabulary; the rest is one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import fetch_published
import pytest
import torch
from hub_server import COMMIT, NEWER, Repo, last_line, serving
from safetensors.torch import load_file, save_file

from hps.models import adapters, fetch, hub, sources
from hps.models.hub_lock import File, Snapshot
from hps.models.scratch import build_tokenizer
from hps.support.errors import InputError
from hps.support.files import read_json, write_json

BASE = {"role": "policy", "source": "hub", "repo": "owner/policy", "commit": COMMIT}
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def policy(tmp_path_factory, model_folder) -> Path:
    """A policy from the hub."""
    folder = tmp_path_factory.mktemp("base") / "policy"
    shutil.copytree(model_folder, folder)
    write_json(folder / "model.json", read_json(folder / "model.json") | BASE)
    return folder


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, policy) -> Path:
    """An adapter on it."""
    torch.manual_seed(0)
    adapted = adapters.with_adapter(sources.load_causal(policy, dtype=torch.float32), 2, 4, ["q_proj"], policy)
    folder = tmp_path_factory.mktemp("adapter") / "adapter"
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return folder


def repository(folder: Path, below: str = "", **changes: dict) -> dict[str, bytes]:
    """A folder's files below another; in those of JSON, keys by name of the file (`changes`) are others."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name, values in changes.items():
        file = f"{name}.json"
        files[file] = json.dumps(json.loads(files[file]) | values).encode()
    return {f"{below}{name}": content for name, content in files.items()}


def test_an_adapter_of_a_folder_and_a_whole_model_are_fetched_checked_and_recorded(policy, adapter, tmp_path):
    repos = {
        "others/hps": Repo(repository(adapter, "runs/best/") | {"README.md": b"", "runs/other/x.safetensors": b"x"}),
        "others/full": Repo(repository(policy)),
    }
    with serving(repos) as server:

        def fetched(out: Path, *words: str) -> dict:
            command = ["--policy", policy, "--out", out, *words]
            done = server.run("fetch_published.py", *command, cache=tmp_path / "cache")
            assert done.returncode == 0, done.stderr
            return read_json(out / "model.json")

        facts = fetched(tmp_path / "best", "--repo", "others/hps", "--folder", "runs/best")
        assert {path.name for path in (tmp_path / "best").iterdir()} == {CONFIG, WEIGHTS, "model.json"}
        assert (facts["repo"], facts["folder"], facts["commit"]) == ("others/hps", "runs/best", COMMIT)
        assert facts["check"] == {"tensors": 4}
        assert facts["parameters"] == 2 * 2 * (32 + 32)
        whole = fetched(tmp_path / "full", "--repo", "others/full")
        assert whole["check"]["vocabulary"] == {"embedding": 320, "tokenizer": 320}
        assert "folder" not in whole
    model = sources.load_causal(policy, dtype=torch.float32)
    adapters.load_adapter(model, tmp_path / "best")


OTHER = {"base_model_name_or_path": "others/base"}
OWN_FOLDER = {"base_model_name_or_path": "/home/them/base"}


def fetched_from(monkeypatch, policy: Path, files: dict[str, bytes], out: Path) -> None:
    """As `fetch_published` fetches, from a repository with these files, without a server."""
    there = out.with_name("there")
    for name, content in files.items():
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(content)
    listed = Snapshot("model", "others/hps", COMMIT, "", {name: File(0, sha256="0") for name in files})
    monkeypatch.setattr(hub, "snapshot", lambda wanted, lock: listed.only(wanted.patterns))
    monkeypatch.setattr(hub, "downloaded", lambda snapshot, out: _given(there))
    fetch_published.main(fetch_published.Arguments(repo="others/hps", policy=str(policy), out=str(out)))


class _given:
    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> Path:
        return self.folder

    def __exit__(self, *_) -> None:
        pass


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (OTHER, f"{CONFIG}: is an adapter on 'others/base', and the policy is 'owner/policy'"),
        (OWN_FOLDER, f"{CONFIG}: is an adapter on '/home/them/base', and the policy is 'owner/policy'"),
        (
            {"revision": NEWER},
            f"{CONFIG}: is an adapter on commit {NEWER} of owner/policy, and the policy is at {COMMIT}",
        ),
        ({"peft_type": "IA3"}, f"{CONFIG}: not of a LoRA adapter: peft_type is not LORA"),
        ({"modules_to_save": ["lm_head"]}, f"{CONFIG}: modules_to_save is .*: only adapters of linear layers are eval"),
        ({"target_modules": ["nope"]}, f"{CONFIG}: not an adapter of this model .*nope"),
        (
            {"target_modules": ["q_proj", "v_proj"]},
            "its tensors are not those of an adapter of owner/policy: 4 missing",
        ),
        ({"r": 3}, "its tensors are not those of an adapter of owner/policy: 4 of another size"),
    ],
)
def test_an_adapter_that_cannot_be_compared_is_one_line(monkeypatch, policy, adapter, tmp_path, changes, line):
    files = repository(adapter, adapter_config=changes)
    with pytest.raises(InputError, match=f"^others/hps(/|: ){line}") as error:
        fetched_from(monkeypatch, policy, files, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_branch_or_the_policys_own_commit_is_no_other_base(monkeypatch, policy, adapter, tmp_path, revision):
    fetched_from(monkeypatch, policy, repository(adapter, adapter_config={"revision": revision}), tmp_path / "out")
    assert read_json(tmp_path / "out/model.json")["role"] == "published"


def test_an_adapter_of_the_output_head_is_refused(monkeypatch, policy, tmp_path):
    """Log-probs are computed with the head directly."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["lm_head"])
    adapted = get_peft_model(sources.load_causal(policy, dtype=torch.float32), config)
    adapted.peft_config["default"].base_model_name_or_path = "owner/policy"
    adapted.save_pretrained(tmp_path / "head", save_embedding_layers=False)
    with pytest.raises(InputError, match="'lm_head' is the embeddings or the output head, which take no adapter"):
        fetched_from(monkeypatch, policy, repository(tmp_path / "head"), tmp_path / "out")


def test_an_adapter_with_values_that_are_not_finite_is_refused(monkeypatch, policy, adapter, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(adapter, broken)
    tensors = load_file(broken / WEIGHTS)
    next(iter(tensors.values()))[0, 0] = torch.nan
    save_file(tensors, broken / WEIGHTS)
    with pytest.raises(InputError, match=f"others/hps/{WEIGHTS}: tensor .* holds values that are not finite"):
        fetched_from(monkeypatch, policy, repository(broken), tmp_path / "out")


def test_a_model_with_another_vocabulary_is_refused(monkeypatch, policy, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(policy, other)
    build_tokenizer(["entirely different words make another vocabulary of tokens"], 320).save_pretrained(other)
    with pytest.raises(InputError, match=r"^others/hps: has another vocabulary than the policy: \d+ tokens, such as"):
        fetched_from(monkeypatch, policy, repository(other), tmp_path / "out")


def test_the_policy_itself_is_no_adapter(monkeypatch, adapter, policy, tmp_path):
    """transformers would look for the adapter's base, on the hub too."""
    both = tmp_path / "both"
    shutil.copytree(policy, both)
    shutil.copy(adapter / CONFIG, both)
    for folder in (adapter, both):
        with pytest.raises(InputError, match=f"{CONFIG}: is an adapter's, where a whole model is expected"):
            fetch.from_path(tmp_path / "out", {"role": "policy"}, folder)


def test_a_folder_without_weights_is_named(adapter, policy, tmp_path):
    repo = Repo(repository(adapter, "a/"))
    with serving({"others/hps": replace(repo)}) as server:
        words = ["--policy", policy, "--repo", "others/hps", "--folder", "b", "--out", tmp_path / "out"]
        line = last_line(server.run("fetch_published.py", *words, cache=tmp_path / "cache"))
    assert line == "error: others/hps: folder b holds no safetensors; pickled weights are refused"
