"""`pin` and `fetch` as Snakemake runs them, against a hub on this machine."""

import shutil
import subprocess
import sys

import make_toy_data
import pytest
import yaml
from conftest import ROOT
from hub_server import COMMIT, NEWER, Repo, serving
from test_workflow import checkout, planned_jobs  # noqa: F401 (checkout is a fixture)

from hps import files, hub_lock

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def repos(model_folder, tmp_path_factory):
    toy = tmp_path_factory.mktemp("toy")
    make_toy_data.main(make_toy_data.Arguments(rows_train=60, rows_test=60, out=str(toy)))
    return {
        "owner/policy": Repo.of(model_folder),
        "owner/generator": Repo.of(model_folder),
        "owner/hh": Repo.of(toy / "hh-rlhf", kind="dataset"),
        "owner/pku": Repo.of(toy / "pku-saferlhf", kind="dataset"),
    }


def preset(folder) -> None:
    """A preset that takes policy, generator and both data sets from the hub."""
    small = yaml.safe_load((ROOT / "config" / "presets" / "smollm2.yaml").read_text())
    for role in ("policy", "generator"):
        small["models"][role] = {"source": "hub", "repo": f"owner/{role}", "revision": ""}
    small["data"]["splits"] = {
        name: {"prompts": min(split["prompts"], 5), "from": "test"} for name, split in small["data"]["splits"].items()
    }
    small["user_study"]["prompts"] = 5
    for name, repo, file in (("hh_rlhf", "hh", "*/test.jsonl.gz"), ("pku_saferlhf", "pku", "test.jsonl.gz")):
        small["data"][name] |= {"hub": f"owner/{repo}", "hub_files": {"train": [], "test": [file]}}
    (folder / "config" / "presets" / "hub.yaml").write_text(yaml.safe_dump(small))


def snakemake(server, folder, *words, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", *words, "--config", "preset=hub"],
        cwd=folder,
        env=server.environment(folder / "cache", HPS_DATA_DIR="", **environment),
        capture_output=True,
        text=True,
    )


def with_revision(folder, role, revision) -> None:
    path = folder / "config" / "presets" / "hub.yaml"
    values = yaml.safe_load(path.read_text())
    values["models"][role]["revision"] = revision
    path.write_text(yaml.safe_dump(values))


def test_pin_fetch_and_renew(checkout, repos):  # noqa: F811
    preset(checkout)
    lock, models = checkout / hub_lock.LOCK, checkout / "results" / "hub" / "models"
    with serving(dict(repos)) as server:
        # Without network, one line at the start says what is not pinned, and the log why nothing came.
        failed = snakemake(server, checkout, "results/hub/models/policy", HF_ENDPOINT="http://127.0.0.1:9")
        assert failed.returncode == 1
        warning = [
            line for line in failed.stderr.splitlines() if line.startswith("Not pinned in config/hub.lock.yaml:")
        ]
        assert [line.split(": ")[1] for line in warning] == [
            "owner/generator, owner/hh, owner/pku, owner/policy. The newest commit is taken and recorded; "
            "`snakemake --cores 1 pin` pins it."
        ]
        log = (checkout / "results" / "hub" / "logs" / "models" / "policy.log").read_text()
        assert "error: owner/policy: no network: http://127.0.0.1:9 cannot be reached" in log
        assert "`snakemake --cores 1 fetch` (with the same --config)" in log
        assert not list(models.glob("*policy*"))

        pinned = snakemake(server, checkout, "pin")
        assert pinned.returncode == 0, pinned.stderr
        assert f"owner/policy: pinned at {COMMIT}" in pinned.stdout
        assert "Not pinned" not in pinned.stderr
        assert len(hub_lock.read(lock)) == 4

        server.asked.clear()
        fetched = snakemake(server, checkout, "fetch")
        assert fetched.returncode == 0, fetched.stderr
        assert "Not pinned" not in fetched.stderr
        assert fetched.stderr.count("localrule fetch_model") == fetched.stderr.count("localrule download") == 2
        facts = files.read_json(models / "policy" / "model.json")
        assert (facts["commit"], facts["pinned"]) == (COMMIT, True)
        assert not [path for path, _ in server.asked if path.startswith("/api/") and path.count("/") == 4]

        # Another commit of one repository: only what came from there is fetched again.
        server.repos["owner/generator"] = repos["owner/generator"].renewed()
        assert snakemake(server, checkout, "pin").returncode == 0
        assert {repo: entry.commit for (_, repo), entry in hub_lock.read(lock).items()} == {
            "owner/generator": NEWER, "owner/policy": COMMIT, "owner/hh": COMMIT, "owner/pku": COMMIT,
        }  # fmt: skip
        again = snakemake(server, checkout, "fetch", "--dry-run")
        assert planned_jobs(again) == {"fetch_model": 1, "fetch": 1, "total": 2}
        assert "results/hub/models/generator" in again.stdout

        # A revision in the configuration that the lock contradicts: one line, before any job. `pin` still starts.
        with_revision(checkout, "policy", "v2")
        refused = snakemake(server, checkout, "fetch", "--dry-run")
        assert refused.returncode == 1
        line = (
            f"config/presets/hub.yaml: models.policy.revision: 'v2', but {hub_lock.LOCK} pins owner/policy at {COMMIT}"
        )
        assert line in refused.stdout + refused.stderr
        assert "Traceback" not in refused.stdout + refused.stderr
        server.repos["owner/policy"] = Repo(repos["owner/policy"].files, tags=("main", "v2"), commit=NEWER)
        assert snakemake(server, checkout, "pin").returncode == 0
        entry = hub_lock.read(lock)["model", "owner/policy"]
        assert (entry.commit, entry.revision) == (NEWER, "v2")


def test_preset_paper_fetches_its_models_and_data_and_nothing_else(checkout):  # noqa: F811
    shutil.rmtree(checkout / "results", ignore_errors=True)
    with serving({}) as server:
        command = [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", "fetch", "--config", "preset=paper"]
        environment = server.environment(checkout / "cache", HPS_DATA_DIR="")
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True)
    planned = planned_jobs(done)
    roles = len(yaml.safe_load((ROOT / "config" / "presets" / "paper.yaml").read_text())["models"])
    assert planned == {"fetch_model": roles, "download": 2, "human_pairs": 2, "fetch": 1, "total": roles + 5}
