"""Models from elsewhere: links to a folder, a GGUF file in a package that is not imported, a repository of a hub."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import fetch_model
import numpy as np
import pytest
import torch
from hub_server import COMMIT, TOKEN, Repo, last_line, serving

from hps.data import chat
from hps.models import fetch, hub_lock, sources
from hps.support import files
from hps.support.errors import InputError


def test_path_links_to_the_folder(model_folder, tmp_path):
    arguments = fetch_model.Arguments(
        role="generator", source="path", path=str(model_folder), out=str(tmp_path / "generator")
    )
    fetch_model.main(arguments)
    out = tmp_path / "generator"
    assert (out / "model.safetensors").resolve() == (model_folder / "model.safetensors").resolve()
    assert not (out / "model.json").is_symlink()
    facts = files.read_json(out / "model.json")
    assert (facts["role"], facts["source"], facts["path"]) == ("generator", "path", str(model_folder.resolve()))
    assert facts["parameters"] == sources.parameters(sources.load_causal(out, device="cpu"))
    assert facts["files"] == files.read_json(model_folder / "model.json")["files"]
    assert facts["check"] == {
        "tensors": len(sources.tensor_shapes(model_folder)),
        "positions": 512,
        "vocabulary": {"embedding": 320, "tokenizer": 320},
        "end_of_turn": "<|end|>",
        "system_turn": "accepted",
        "whole_conversation": "same",
    }
    assert files.read_json(model_folder / "model.json")["role"] == "policy"  # untouched


def test_path_leaves_pickles_and_code_behind(model_folder, tmp_path):
    given = Path(shutil.copytree(model_folder, tmp_path / "given"))
    for name in ("pytorch_model.bin", "modeling_own.py", "optimizer.pt"):
        (given / name).write_text("x")
    fetch.from_path(tmp_path / "out", {"role": "policy"}, given)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {path.name for path in model_folder.iterdir()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "path"}, "--path: needed with --source path"),
        ({"source": "hub"}, "--repo: needed with --source hub"),
        ({"source": "gguf", "file": "x.gguf"}, "--package: needed with --source gguf"),
        ({"source": "path", "path": "nowhere/at/all"}, "nowhere/at/all: there is no such model folder"),
        ({"source": "gguf", "package": "no_such_package", "file": "x.gguf"}, "no_such_package: .*not installed"),
        ({"source": "gguf", "package": "hps", "file": "x.gguf"}, "hps: the package carries no file x.gguf"),
        ({"source": "gguf", "package": "hps", "file": "support/cli.py"}, "cli.py: not a GGUF file"),
        ({"source": "gguf", "package": "hps.models", "file": "x"}, "hps.models: not the name of a top-level"),
    ],
)
def test_bad_input_is_one_line(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        fetch_model.main(fetch_model.Arguments(role="policy", out=str(tmp_path / "out"), **options))
    assert not list(tmp_path.iterdir())


def test_a_reward_role_needs_a_head(model_folder, tmp_path):
    with pytest.raises(InputError, match="not a reward model"):
        fetch.from_path(tmp_path / "out", {"role": "reward"}, model_folder)


def _write_gguf(path: Path, model_folder: Path) -> None:
    """The model folder's Llama as a GGUF file with float32 tensors: llama.cpp's names and order of rotary channels."""
    import gguf

    model = sources.load_causal(model_folder, device="cpu")
    config, tokenizer = model.config, sources.load_tokenizer(model_folder)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    writer.add_token_types([3 if i in special else 1 for i in range(len(tokenizer))])  # control, normal
    writer.add_token_merges([" ".join(merge) for merge in backend["merges"]])
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_chat_template(tokenizer.chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        array = value.numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:
                array = array.reshape(heads, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        stem, _, suffix = name.rpartition(".")
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_gguf_in_a_package_that_cannot_be_imported(model_folder, tmp_path, monkeypatch):
    package = tmp_path / "site" / "package_with_weights"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('needs something that is not installed')")
    _write_gguf(package / "tiny.gguf", model_folder)
    monkeypatch.syspath_prepend(tmp_path / "site")
    out = tmp_path / "out"
    fetch.from_gguf(out, {"role": "policy"}, "package_with_weights", "tiny.gguf", "float32")

    facts = files.read_json(out / "model.json")
    assert facts["version"] == "unknown"  # a folder, no distribution
    assert facts["sha256"] == files.sha256(package / "tiny.gguf")
    assert facts["dtype"] == "float32"
    ours, theirs = sources.load_causal(model_folder, device="cpu"), sources.load_causal(out, device="cpu")
    tokenizer, fetched = sources.load_tokenizer(model_folder), sources.load_tokenizer(out)
    messages = [{"role": "user", "content": "mix the flour"}]
    ids = chat.prompt_ids(tokenizer, messages) + chat.response_ids(tokenizer, "go home")
    assert chat.prompt_ids(fetched, messages) + chat.response_ids(fetched, "go home") == ids
    with torch.no_grad():
        assert torch.allclose(ours(torch.tensor([ids])).logits, theirs(torch.tensor([ids])).logits, atol=1e-4)


@pytest.fixture(scope="module")
def hub(model_folder):
    pickle_and_code = {"pytorch_model.bin": b"x", "own.py": b"x", "original/params.json": b"{}"}
    whole = Repo.of(model_folder)
    tampered = {"model.safetensors": bytes(len(whole.files["model.safetensors"]))}
    untemplated = {k: v for k, v in whole.files.items() if k != "chat_template.jinja"}
    repos = {
        "owner/model": Repo(whole.files | pickle_and_code, tags=("main", "v1")),
        "owner/pickled": Repo({"config.json": b"{}", "pytorch_model.bin": b"x"}),
        "owner/gated": Repo.of(model_folder, gated=True),
        "owner/huge": Repo.of(model_folder, sizes={"model.safetensors": 10**18}),
        "owner/tampered": Repo.of(model_folder, sent=tampered),
        "owner/short": Repo.of(model_folder, sent={"config.json": b"{}"}),
        "owner/untemplated": Repo(untemplated),
        "owner/down": Repo({}, status=503),
        "owner/forbidden": Repo({}, status=403),
    }
    with serving(repos) as server:
        yield server


def _fetch(server, out: Path, repo: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["--role", "policy", "--source", "hub", "--repo", repo, "--out", out, *words]
    return server.run("fetch_model.py", *command, cache=out.parent / "cache", **environment)


def test_hub_download_resolves_the_commit_and_takes_safetensors_only(hub, model_folder, tmp_path):
    out = tmp_path / "policy"
    hub.asked.clear()
    done = _fetch(hub, out, "owner/model", HF_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    facts = files.read_json(out / "model.json")
    assert (facts["source"], facts["repo"], facts["commit"]) == ("hub", "owner/model", COMMIT)
    assert facts["pinned"] is False
    assert f"owner/model: not pinned; taking and recording commit {COMMIT}" in done.stderr
    assert {path.name for path in out.iterdir()} == {path.name for path in model_folder.iterdir()}
    assert files.sha256(out / "model.safetensors") == files.sha256(model_folder / "model.safetensors")
    assert {path.name for path in tmp_path.iterdir()} <= {"policy", "cache"}
    paths = [path for path, _ in hub.asked]
    assert not [path for path in paths if path.endswith((".bin", ".py", "params.json"))]
    # The token is for the hub alone, not for the host that it sends us to.
    assert {bool(authorization) for path, authorization in hub.asked if path.startswith("/cdn/")} == {False}
    assert {authorization for path, authorization in hub.asked if path.startswith("/api/models/")} == {
        f"Bearer {TOKEN}"
    }


ACCEPT = "accept the licence at https://huggingface.co/owner/gated, then set HF_TOKEN"


@pytest.mark.parametrize(
    ("repo", "words", "environment", "message"),
    [
        ("owner/pickled", [], {}, "owner/pickled: the repository holds no safetensors; pickled weights are refused"),
        ("owner/nothing", [], {}, "owner/nothing: no such model repository, or a private one: without a token (HF_T"),
        ("owner/nothing", [], {"HF_TOKEN": TOKEN}, "owner/nothing: no such model repository, or a private one that"),
        ("owner/model", ["--revision", "v2"], {}, "owner/model: the repository has no revision v2"),
        ("owner/model", [], {"HF_TOKEN": "hf_wrong"}, "owner/model: the hub refuses the token (401): set HF_TOKEN"),
        ("owner/gated", [], {}, f"owner/gated: a gated repository: {ACCEPT}"),
        ("owner/gated", [], {"HF_TOKEN": TOKEN}, f"owner/gated: a gated repository: {ACCEPT}"),
        ("owner/huge", [], {}, "owner/huge: needs 1000000000.0 GB on the disk of "),
        ("owner/model", [], {"HF_HUB_OFFLINE": "1"}, "owner/model: HF_HUB_OFFLINE is set; unset it where"),
        ("owner/model", [], {"HF_ENDPOINT": "http://127.0.0.1:9"}, "owner/model: no network: http://127.0.0.1:9 can"),
        ("owner/down", [], {}, "owner/down: the hub answers 503 (Not today); try again later"),
        ("owner/forbidden", [], {}, "owner/forbidden: the hub forbids it (403: Not today); does the token have read"),
        ("one/too/many", [], {}, "one/too/many: not to be had from the hub (Repo id must be in the form"),
        ("owner/tampered", [], {}, "owner/tampered: model.safetensors: has SHA-256 "),
        ("owner/short", [], {}, "owner/short: config.json: has 2 bytes where the hub says "),
        ("owner/untemplated", [], {}, "owner/untemplated: the tokenizer has no chat template"),
    ],
)  # fmt: skip
def test_hub_errors_are_one_line_and_leave_nothing(hub, tmp_path, repo, words, environment, message):
    hub.asked.clear()
    done = _fetch(hub, tmp_path / "models" / "policy", repo, *words, **environment)
    assert last_line(done).startswith(f"error: {message}")
    assert not list(tmp_path.glob("models/*policy*"))
    if repo == "owner/huge":  # found out before anything was downloaded
        assert [path for path, _ in hub.asked if "owner" in path] == ["/api/models/owner/huge"]
        assert re.search(r"where \d+\.\d GB is free$", last_line(done))


def test_a_download_that_broke_off_goes_on_where_it_was(model_folder, tmp_path):
    out, kept = tmp_path / "policy", tmp_path / ".policy.download"
    repo = Repo.of(model_folder, missing=("tokenizer.json",))
    with serving({"owner/model": repo}) as server:
        assert "a file that the hub lists is not there" in last_line(_fetch(server, out, "owner/model"))
        arrived = {path.name for path in kept.iterdir() if path.is_file()}
        assert arrived
        assert not out.exists()
        server.asked.clear()
        repo.missing = ()
        assert _fetch(server, out, "owner/model").returncode == 0
        asked_for = {path.rpartition("/")[2] for path, _ in server.asked if "/resolve/" in path}
    assert asked_for == {path.name for path in model_folder.iterdir()} - arrived
    assert not kept.exists()


def _lock(server, path: Path, *repos: str) -> None:
    wanted = [{"kind": "model", "repo": repo, "revision": "", "patterns": hub_lock.MODEL_FILES} for repo in repos]
    done = server.run("pin.py", "--wanted", json.dumps(wanted), "--lock", path, cache=path.parent / "cache")
    assert done.returncode == 0, done.stderr


def test_a_pinned_model_is_taken_at_its_commit_and_verified(model_folder, tmp_path):
    lock, out = tmp_path / "hub.lock.yaml", tmp_path / "policy"
    repo = Repo.of(model_folder)
    with serving({"owner/model": repo}) as server:
        _lock(server, lock, "owner/model")
        server.asked.clear()
        done = _fetch(server, out, "owner/model", "--lock", lock)
        assert done.returncode == 0, done.stderr
        assert "/api/models/owner/model" not in [path for path, _ in server.asked]  # the newest is not asked for
        facts = files.read_json(out / "model.json")
        assert (facts["commit"], facts["pinned"]) == (COMMIT, True)

        # The hub now has another file of the same size at the pinned commit.
        weights = repo.files["model.safetensors"]
        server.repos["owner/model"] = replace(repo, files=repo.files | {"model.safetensors": weights[:-1] + b"\x7f"})
        line = last_line(_fetch(server, tmp_path / "again", "owner/model", "--lock", lock))
        expected = hub_lock.read(lock)["model", "owner/model"].files["model.safetensors"].sha256
        assert line.startswith("error: owner/model: model.safetensors: has SHA-256 ")
        assert line.endswith(f"where {lock} says {expected}; nothing is kept")
        assert not list(tmp_path.glob("*again*"))

        # Only another commit is there.
        server.repos["owner/model"] = repo.renewed()
        line = last_line(_fetch(server, tmp_path / "again", "owner/model", "--lock", lock))
        assert line == f"error: owner/model: the repository has no revision {COMMIT}"

        line = last_line(_fetch(server, tmp_path / "again", "owner/model", "--lock", lock, "--revision", "v1"))
        assert line.startswith(f"error: owner/model: 'v1', but {lock} pins owner/model at {COMMIT}")
