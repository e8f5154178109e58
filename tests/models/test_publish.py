"""Publishing: one commit that arrives whole or not at all, and one line where it does not."""

import subprocess
from pathlib import Path

import pytest
from hub_server import SIGNED, TOKEN, WRITER, Repo, last_line, serving

FILES = {"README.md": "---\nlicense: mit\n---\n# A card\n", "runs/a/adapter_model.safetensors": "weights"}


@pytest.fixture
def folder(tmp_path) -> Path:
    """What is published; the weights are a link, as those of a run are."""
    folder, weights = tmp_path / "publication", tmp_path / "weights"
    weights.write_text(FILES["runs/a/adapter_model.safetensors"])
    (folder / "runs/a").mkdir(parents=True)
    (folder / "README.md").write_text(FILES["README.md"])
    (folder / "runs/a/adapter_model.safetensors").symlink_to(weights)
    return folder


def publish(server, folder: Path, *words: str, repo="me/hps", token=WRITER, **more: str) -> subprocess.CompletedProcess:
    command = ["--folder", folder, "--repo", repo, *words]
    return server.run("publish.py", *command, cache=folder.parent / "cache", HF_TOKEN=token, **more)


def test_a_folder_arrives_as_one_commit_and_a_new_repository_is_private(folder):
    with serving({}) as server:
        done = publish(server, folder, "--private")
        assert done.returncode == 0, done.stderr
        repo = server.repos["me/hps"]
        assert {name: content.decode() for name, content in repo.files.items()} == FILES
        assert repo.private
        assert [message.split()[0] for message in repo.commits] == ["HPS-Replica"]
        assert f"me/hps: published as http://127.0.0.1:{server.port}/me/hps/commit/" in done.stderr
        # The token is for the hub alone, not for the host that takes the weights, and is in no line.
        sent = {path.split("/")[1]: bool(authorization) for path, authorization in server.asked}
        assert sent == {"api": True, "me": True, "lfs": False}
        assert not [secret for secret in (WRITER, SIGNED) if secret in done.stdout + done.stderr]


def test_a_repository_that_is_there_keeps_what_is_not_published(folder):
    repo = Repo({"notes.txt": b"mine", "README.md": b"old"})
    with serving({"me/hps": repo}) as server:
        assert publish(server, folder, "--private").returncode == 0
    assert repo.files["notes.txt"] == b"mine"
    assert repo.files["README.md"].decode() == FILES["README.md"]
    assert not repo.private


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token": ""}, "me/hps: the hub takes files from an account alone: set HF_TOKEN to a token that may write"),
        ({"token": "hf_wrong"}, "me/hps: the hub refuses the token (401): set HF_TOKEN to a valid one"),
        (
            {"token": TOKEN},
            "me/hps: the hub forbids it (403: You don't have the rights to do this); does the token have w",
        ),
        ({"HF_ENDPOINT": "http://127.0.0.1:9"}, "me/hps: no network: http://127.0.0.1:9 cannot be reached"),
        ({"HF_HUB_OFFLINE": "1"}, "me/hps: HF_HUB_OFFLINE is set; unset it where there is network, and publish again"),
        ({"repo": "one/too/many"}, "one/too/many: not taken by the hub (Repo id must be in the form"),
    ],
)
def test_errors_are_one_line_and_publish_nothing(folder, given, message):
    with serving({}) as server:
        done = publish(server, folder, **given)
        assert last_line(done).startswith(f"error: {message}")
        assert server.repos == {}
    assert not given.get("token") or given["token"] not in done.stdout + done.stderr


def test_when_weights_cannot_be_sent_nothing_is_committed(folder):
    repo = Repo({"README.md": b"old"}, full=True)
    with serving({"me/hps": repo}) as server:
        line = last_line(publish(server, folder))
    assert line.startswith("error: me/hps: the hub forbids it (403: No room); does the token have write access to ")
    assert (repo.files, repo.commits) == ({"README.md": b"old"}, [])


def test_a_card_that_the_hub_finds_fault_with_is_said_in_one_line(folder):
    (folder / "README.md").write_text("---\nlicense: my-own\n---\n")
    with serving({"me/hps": (repo := Repo({}))}) as server:
        line = last_line(publish(server, folder))
    assert line == (
        "error: me/hps: not taken by the hub (Invalid metadata in README.md. "
        '- "license" must be one of [mit, cc-by-nc-4.0])'
    )
    assert repo.files == {}
