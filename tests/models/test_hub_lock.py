"""The lock file: what `pin` writes, what a run takes from it, and what contradicts it."""

import errno
import json
import os
from dataclasses import asdict

import pytest
from conftest import ROOT
from hub_server import COMMIT, NEWER, Repo, last_line, serving
from test_config import load

from hps.models import hub, hub_lock
from hps.models.hub_lock import MODEL_FILES, File, Snapshot, Wanted
from hps.support import files
from hps.support.errors import InputError

WEIGHTS = bytes(range(200))
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "own.py": b"x", "original/params.json": b"{}"}
ROWS = {f"data/{name}/{part}.jsonl": b"{}\n" for name in ("a", "b") for part in ("train", "test")}
MODEL = Wanted("model", "owner/model", "", MODEL_FILES, "models.policy.revision")
DATA = Wanted("dataset", "owner/data", "", ("data/a/train.jsonl",), "data.x.hub_revision")


def pin(server, lock, *wanted):
    words = ["--wanted", json.dumps([asdict(one) for one in wanted]), "--lock", lock]
    return server.run("pin.py", *words, cache=lock.parent / "cache")


def test_pin_writes_what_the_hub_says_and_keeps_what_it_was_not_asked_for(tmp_path):
    path = tmp_path / "hub.lock.yaml"
    repos = {"owner/model": Repo(FILES), "owner/data": Repo(ROWS, kind="dataset"), "owner/other": Repo(FILES)}
    with serving(repos) as server:
        other = Wanted("model", "owner/other", "main", MODEL_FILES)
        done = pin(server, path, MODEL, DATA, other)
        assert done.returncode == 0, done.stderr
        lock = hub_lock.read(path)
        assert set(lock) == {("model", "owner/model"), ("model", "owner/other"), ("dataset", "owner/data")}
        model = lock["model", "owner/model"]
        weights = tmp_path / "weights"
        weights.write_bytes(WEIGHTS)
        assert model.commit == COMMIT
        # `printf '{}' | git hash-object --stdin`
        assert model.files == {
            "config.json": File(2, blob="9e26dfeeb6e641a33dae4961196235bdb965b21b"),
            "model.safetensors": File(200, sha256=files.sha256(weights)),
        }
        assert list(lock["dataset", "owner/data"].files) == ["data/a/train.jsonl"]
        assert (model.revision, lock["model", "owner/other"].revision) == ("", "main")

        # Another configuration wants other data files; the model has moved, the third repository is not asked for.
        server.repos["owner/model"] = repos["owner/model"].renewed({"config.json": b"[]"})
        both = Wanted("dataset", "owner/data", "", ("data/*/test.jsonl",))
        done = pin(server, path, MODEL, both)
        assert f"owner/model: {COMMIT} is now {NEWER}, 2 files" in done.stderr
        assert f"owner/data: still at {COMMIT}, 3 files" in done.stderr
        renewed = hub_lock.read(path)
        assert renewed["model", "owner/model"].commit == NEWER
        assert sorted(renewed["dataset", "owner/data"].files) == [
            "data/a/test.jsonl", "data/a/train.jsonl", "data/b/test.jsonl",
        ]  # fmt: skip
        assert renewed["model", "owner/other"] == lock["model", "owner/other"]

        # Nothing is written when one of several is not to be had.
        before = path.read_bytes()
        nowhere = Wanted("model", "owner/nowhere", "", MODEL_FILES)
        assert last_line(pin(server, path, MODEL, nowhere)).startswith("error: owner/nowhere: no such model repository")
        assert path.read_bytes() == before


def test_a_lock_file_is_read_as_it_was_written(tmp_path):
    listed = {"a.json": File(3, blob="ab" * 20), "b.safetensors": File(5, sha256="cd" * 32)}
    path = tmp_path / "lock.yaml"
    lock = {("model", "o/m"): Snapshot("model", "o/m", COMMIT, "", listed, str(path))}
    hub_lock.write(path, lock)
    assert hub_lock.read(path) == lock
    assert hub_lock.read(tmp_path / "none.yaml") == {}


def locked(file: str = "{size: 3, blob: " + "ab" * 20 + "}", name: str = "a", commit="x", revision="''") -> str:
    return f"model: {{o/m: {{commit: {commit}, revision: {revision}, files: {{{name}: {file}}}}}}}"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("model: [", r"lock.yaml:\d: is not YAML"),
        ("modle: {}", "'modle' is none of model, dataset"),
        ("model: {o/m: {commit: x}}", r"not a lock file as `snakemake pin` writes it \('files'\)"),
        ("model: {o/m: {commit: x, revision: '', files: {a: {sise: 1}}}}", "not a lock file"),
        ("model: [o/m]", "not a lock file"),
        ("model", "is not a mapping"),
        ("\xff", "lock.yaml:1: is not UTF-8"),
        ("a: " + "[" * 100_000, "lock.yaml:1: is nested more than 100 levels deep"),
        ("model: {o/m: {}, o/m: {}}", "key o/m stands twice"),
        (locked(), "o/m: 'x' is no commit"),
        (locked(commit=5), "o/m: 5 is no commit"),
        (locked(commit=COMMIT, revision=1), "o/m: revision is 1, not text"),
        (locked("{}", commit=COMMIT), "not a lock file .*size"),
        (locked("3", commit=COMMIT), "not a lock file"),
        (locked("{size: '3'}", commit=COMMIT), "o/m: a: '3' is no size in bytes"),
        (locked("{size: 3.5}", commit=COMMIT), "o/m: a: 3.5 is no size in bytes"),
        (locked("{size: -3}", commit=COMMIT), "o/m: a: -3 is no size in bytes"),
        (locked("{size: 3, sha256: 7}", commit=COMMIT), "o/m: a: has neither a SHA-256 nor a git blob id"),
        (locked("{size: 3, blob: zz}", commit=COMMIT), "o/m: a: has neither a SHA-256 nor a git blob id"),
        (locked(name="../a", commit=COMMIT), r"o/m: '\.\./a' is no path of a file within a repository"),
        (locked(name="/etc/a", commit=COMMIT), "o/m: '/etc/a' is no path of a file"),
        (locked(name="7", commit=COMMIT), "key 7 is no text"),
    ],
)
def test_a_broken_lock_file_is_one_line(tmp_path, text, what):
    path = tmp_path / "lock.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=what) as caught:
        hub_lock.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


NAME = {"rfilename": "a.json", "size": 2, "blobId": "ab" * 20}


@pytest.mark.parametrize(
    ("info", "what"),
    [
        (
            {"siblings": [NAME | {"rfilename": "../../a.json"}]},
            "'../../a.json' is no path of a file",
        ),
        ({"siblings": [NAME | {"rfilename": "/tmp/a.json"}]}, "'/tmp/a.json' is no path of a file"),
        ({"siblings": [NAME | {"rfilename": "x\\a.json"}]}, "is no path of a file within a repository"),
        ({"siblings": [NAME | {"size": None}]}, "a.json: None is no size in bytes"),
        ({"siblings": [NAME | {"blobId": None}]}, "a.json: has neither a SHA-256 nor a git blob id"),
        ({"siblings": [NAME], "sha": "main"}, "'main' is no commit"),
        ({"siblings": None}, "the hub's answer cannot be read"),
        ({"siblings": [{}]}, "the hub's answer cannot be read"),
        ([], "the hub's answer cannot be read"),
        (None, "not to be had from the hub"),
    ],
)
def test_an_answer_of_the_hub_that_is_none_is_one_line(tmp_path, info, what):
    said = {"id": "owner/model", "sha": COMMIT, "tags": []} | info if isinstance(info, dict) else info
    content = b"<html>" if info is None else json.dumps(said).encode()
    with serving({"owner/model": Repo({}, info=content)}) as server:
        line = last_line(pin(server, tmp_path / "lock.yaml", MODEL))
    assert what in line
    assert "owner/model" in line
    assert not (tmp_path / "lock.yaml").exists()


def test_a_token_is_read_with_care_and_shown_nowhere(tmp_path):
    with serving({"owner/model": Repo(FILES)}) as server:
        words = ["pin.py", "--wanted", json.dumps([asdict(MODEL)]), "--lock", tmp_path / "lock.yaml"]
        done = server.run(*words, cache=tmp_path / "cache", HF_TOKEN="hf_sécret-token")
        assert "error: HF_TOKEN, or what `hf auth login` stored: holds a character that no key has" in last_line(done)
        assert not server.asked
        server.repos["owner/model"] = Repo(FILES, info=b'{"id": "hf_right"}')
        done = server.run(*words, cache=tmp_path / "cache", HF_TOKEN=" hf_right\r\n")
        assert server.asked[-1][1] == "Bearer hf_right"
        assert "hf_right" not in done.stderr + done.stdout


LOCKED = Snapshot("model", "owner/model", COMMIT, "v1", {"config.json": File(2, blob="x")}, hub_lock.LOCK)


@pytest.mark.parametrize("revision", ["", "v1", COMMIT, COMMIT[:7]])
def test_a_revision_may_name_what_is_pinned(revision):
    found = hub_lock.pinned({("model", "owner/model"): LOCKED}, Wanted("model", "owner/model", revision, MODEL_FILES))
    assert found == LOCKED


@pytest.mark.parametrize("revision", ["v2", "main", NEWER, COMMIT[:3]])
def test_another_revision_than_the_pinned_is_refused(revision):
    wanted = Wanted("model", "owner/model", revision, MODEL_FILES, "models.policy.revision")
    with pytest.raises(InputError) as caught:
        hub_lock.pinned({("model", "owner/model"): LOCKED}, wanted)
    assert str(caught.value) == (
        f"models.policy.revision: {revision!r}, but config/hub.lock.yaml pins owner/model at {COMMIT}; "
        "drop the one, or renew the other with `snakemake pin`"
    )


def test_a_star_stays_within_its_folder():
    names = ["config.json", "sub/config.json", "data/a/train.jsonl", "data/a/b/train.jsonl"]
    assert hub_lock.matching(names, "*.json") == ["config.json"]
    assert hub_lock.matching(names, "data/*/train.jsonl") == ["data/a/train.jsonl"]


def test_what_preset_paper_wants_of_the_hub():
    config = load(preset="paper")
    wanted = hub_lock.wanted(config)
    assert [(one.kind, one.repo) for one in wanted if one.kind == "dataset"] == [
        ("dataset", "Anthropic/hh-rlhf"), ("dataset", "PKU-Alignment/PKU-SafeRLHF"),
    ]  # fmt: skip
    roles = [model["repo"] for model in config["models"].values() if model["source"] == "hub"]
    assert [one.repo for one in wanted if one.kind == "model"] == [*roles, "Qwen/Qwen2.5-72B-Instruct"]
    assert wanted[len(roles)].key == "config/presets/paper.yaml: judge.hub.revision"
    assert [one.repo for one in hub_lock.wanted(config, data=False, judge=False)] == roles
    assert len(next(one for one in wanted if one.repo == "Anthropic/hh-rlhf").patterns) == 8
    assert all(one.revision == "" for one in wanted)  # none is made up
    assert not [one for one in hub_lock.wanted(config, data=False) if one.kind == "dataset"]
    assert hub_lock.wanted(load(preset="tiny")) == []


@pytest.mark.parametrize("null", [None, "null"])  # Snakemake reads what is nested in `--config` as text
def test_a_judge_whom_someone_else_serves_is_not_wanted(null):
    config = load(preset="paper", judge={"hub": null})
    assert config["judge"]["hub"] is None
    assert not [one for one in hub_lock.wanted(config) if one.repo.startswith("Qwen/")]


def test_one_repository_has_one_pin():
    one, other = (Wanted("model", "o/m", revision, MODEL_FILES, key) for revision, key in (("", "a"), ("v1", "b")))
    with pytest.raises(InputError, match="b: 'v1', but a is '': o/m has one pin"):
        hub_lock.merged([one, other])
    assert hub_lock.merged([one, one]) == [one]


def test_a_data_set_of_the_hub_needs_the_names_of_its_files():
    mine = {"format": "hh_rlhf", "hub": "o/d", "files": {"train": [], "test": []}}
    given = {"grid": {"datasets": ["mine"]}, "ablations": {"dataset": "mine"}, "data": {"mine": mine}}
    with pytest.raises(InputError, match=r"data\.mine\.hub_files: is missing; it names the files to take from o/d"):
        load(preset="paper", **given)


def test_blob_ids_are_gits(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"what is up, doc?")  # the example of the Git book, chapter 10.2
    assert hub.blob_id(path) == "bd9dbf5aae1a3862dd1526723246b20206e5fc37"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_on_the_way_is_one_line(code):
    full = r"^o/m: the disk is full, or the quota used up, at /scratch/x \("
    with pytest.raises(InputError, match=full), hub._one_line("o/m", "model", ""):
        raise OSError(code, os.strerror(code), "/scratch/x")


def test_no_lock_is_made_up():
    """A lock file that is committed was written by `pin`: commits and hashes have their full length."""
    for snapshot in hub_lock.read(ROOT / hub_lock.LOCK).values():
        assert len(snapshot.commit) == 40
        assert all(len(file.sha256) == 64 or len(file.blob) == 40 for file in snapshot.files.values())
