"""Models from elsewhere: links to a folder, a GGUF file in a package that is not imported, a repository of a hub."""

import hashlib
import json
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fetch_model
import numpy as np
import pytest
import torch
from conftest import SCRIPTS, python_environment

from hps import chat, files
from hps.errors import InputError
from hps.models import fetch, sources

COMMIT = "c0ffee0000000000000000000000000000000000"


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
    assert facts["provenance"]["inputs"] == {
        str(model_folder): {"model.json": files.sha256(model_folder / "model.json")}
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
        ({"source": "path", "path": "nowhere/at/all"}, "nowhere/at/all: no such file or folder"),
        ({"source": "gguf", "package": "no_such_package", "file": "x.gguf"}, "no_such_package: .*not installed"),
        ({"source": "gguf", "package": "hps", "file": "x.gguf"}, "hps: the package carries no file x.gguf"),
        ({"source": "gguf", "package": "hps", "file": "cli.py"}, "cli.py: not a GGUF file"),
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


class _Hub(BaseHTTPRequestHandler):
    """As much of the hub as a download needs: `owner/model` holds a folder's files, `owner/pickled` a pickle."""

    folder: Path
    asked: list[str]

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = self.path.split("?")[0]
        self.asked.append(path)
        for repo, names in (
            ("owner/model", [*(file.name for file in self.folder.iterdir()), "pytorch_model.bin", "own.py"]),
            ("owner/pickled", ["config.json", "pytorch_model.bin"]),
        ):
            if path in (f"/api/models/{repo}", f"/api/models/{repo}/revision/{COMMIT}"):
                siblings = [{"rfilename": name} for name in names]
                return self._answer({"id": repo, "sha": COMMIT, "siblings": siblings, "tags": []})
            if path == f"/api/models/{repo}/tree/{COMMIT}":
                return self._answer([{"type": "file", "path": name, "size": 1, "oid": name} for name in names])
            if path.startswith(f"/{repo}/resolve/{COMMIT}/"):
                return self._answer((self.folder / path.rpartition("/")[2]).read_bytes())
        return self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def _answer(self, body, status=200, headers=None):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        etag = hashlib.sha256(data).hexdigest()
        more = {"Content-Length": str(len(data)), "ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
        for name, value in (more | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


@pytest.fixture
def hub(model_folder):
    handler = type("Hub", (_Hub,), {"folder": model_folder, "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def _fetch(server, out: Path, repo: str, **environment: str) -> subprocess.CompletedProcess:
    command = ["--role", "policy", "--source", "hub", "--repo", repo, "--out", str(out)]
    endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [sys.executable, str(SCRIPTS / "fetch_model.py"), *command],
        env=python_environment(HF_HOME=str(out.parent / "cache"), **(endpoint | environment)),
        capture_output=True,
        text=True,
    )


def test_hub_download_resolves_the_commit_and_takes_safetensors_only(hub, model_folder, tmp_path):
    out = tmp_path / "policy"
    done = _fetch(hub, out, "owner/model")
    assert done.returncode == 0, done.stderr
    facts = files.read_json(out / "model.json")
    assert (facts["source"], facts["repo"], facts["commit"]) == ("hub", "owner/model", COMMIT)
    assert {path.name for path in out.iterdir()} == {path.name for path in model_folder.iterdir()}
    assert files.sha256(out / "model.safetensors") == files.sha256(model_folder / "model.safetensors")
    assert not [path for path in hub.RequestHandlerClass.asked if path.endswith((".bin", ".py"))]


@pytest.mark.parametrize(
    ("repo", "environment", "message"),
    [
        ("owner/pickled", {}, "error: owner/pickled: the repository holds no safetensors; pickled weights are refused"),
        ("owner/nothing", {}, "error: owner/nothing: not to be had from the hub"),
        ("owner/model", {"HF_HUB_OFFLINE": "1"}, "error: owner/model: not to be had from the hub"),
    ],
)
def test_hub_errors_are_one_line_and_leave_nothing(hub, tmp_path, repo, environment, message):
    out = tmp_path / "models" / "policy"
    done = _fetch(hub, out, repo, **environment)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(message)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("models/*policy*"))
