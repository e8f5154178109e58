"""`pin` and `fetch` as Snakemake runs them, against a hub on this machine."""

import subprocess
from dataclasses import replace

import pytest
import toy_data
import yaml
from conftest import ROOT, called, planned_jobs
from hub_server import COMMIT, NEWER, Repo, serving

from hps.models import hub_lock
from hps.support import files

pytestmark = [pytest.mark.workflow, pytest.mark.long]


@pytest.fixture(scope="module")
def repos(model_folder, tmp_path_factory):
    toy = tmp_path_factory.mktemp("toy")
    toy_data.main(toy_data.Arguments(rows_train=60, rows_test=60, out=str(toy)))
    return {
        "owner/policy": Repo.of(model_folder),
        "owner/generator": Repo.of(model_folder),
        "owner/judge": Repo.of(model_folder),
        "owner/hh": Repo.of(toy / "hh-rlhf", kind="dataset"),
        "owner/pku": Repo.of(toy / "pku-saferlhf", kind="dataset"),
    }


def preset(folder) -> None:
    """A preset that takes policy, generator, judge and both data sets from the hub."""
    small = yaml.safe_load((ROOT / "config" / "presets" / "smollm2.yaml").read_text())
    for role in ("policy", "generator"):
        small["models"][role] = {"source": "hub", "repo": f"owner/{role}", "revision": ""}
    small["judge"]["hub"] = {"repo": "owner/judge", "revision": ""}
    small["data"]["splits"] = {
        name: {"prompts": min(split["prompts"], 5), "from": "test"} for name, split in small["data"]["splits"].items()
    }
    small["user_study"]["prompts"] = 5
    for name, repo, file in (("hh_rlhf", "hh", "*/test.jsonl.gz"), ("pku_saferlhf", "pku", "test.jsonl.gz")):
        small["data"][name] |= {"hub": f"owner/{repo}", "hub_files": {"train": [], "test": [file]}}
    (folder / "config" / "presets" / "hub.yaml").write_text(yaml.safe_dump(small))


def snakemake(server, folder, *words, **environment) -> subprocess.CompletedProcess:
    env = server.environment(folder / "cache", HPS_DATA_DIR="", **environment)
    return called("-m", "snakemake", "--cores", "1", *words, "--config", "preset=hub", folder=folder, env=env)


def with_revision(folder, role, revision) -> None:
    path = folder / "config" / "presets" / "hub.yaml"
    values = yaml.safe_load(path.read_text())
    values["models"][role]["revision"] = revision
    path.write_text(yaml.safe_dump(values))


def test_pin_fetch_and_renew(checkout, repos):
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
            "owner/generator, owner/hh, owner/judge, owner/pku, owner/policy. The newest commit is taken and recorded; "
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
        assert len(hub_lock.read(lock)) == 5

        server.asked.clear()
        fetched = snakemake(server, checkout, "fetch")
        assert fetched.returncode == 0, fetched.stderr
        assert "Not pinned" not in fetched.stderr
        assert (fetched.stderr.count("] fetch_model "), fetched.stderr.count("] download ")) == (3, 2)
        for role in ("policy", "judge"):
            facts = files.read_json(models / role / "model.json")
            assert (facts["role"], facts["repo"]) == (role, f"owner/{role}")
            assert (facts["commit"], facts["pinned"]) == (COMMIT, True)
        assert not [path for path, _ in server.asked if path.startswith("/api/") and path.count("/") == 4]

        # Another commit of two repositories: only what came from there is fetched again.
        for role in ("generator", "judge"):
            server.repos[f"owner/{role}"] = repos[f"owner/{role}"].renewed()
        assert snakemake(server, checkout, "pin").returncode == 0
        assert {repo: entry.commit for (_, repo), entry in hub_lock.read(lock).items()} == {
            "owner/generator": NEWER, "owner/judge": NEWER,
            "owner/policy": COMMIT, "owner/hh": COMMIT, "owner/pku": COMMIT,
        }  # fmt: skip
        again = snakemake(server, checkout, "fetch", "--dry-run")
        assert planned_jobs(again) == {"fetch_model": 2, "fetch": 1, "total": 3}
        assert {"results/hub/models/generator", "results/hub/models/judge"} <= set(again.stdout.split())

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


def test_the_judges_size_counts_against_the_disk(checkout, repos):
    preset(checkout)
    judge = replace(repos["owner/judge"], sizes={"model.safetensors": 10**18})
    with serving(repos | {"owner/judge": judge}) as server:
        failed = snakemake(server, checkout, "fetch", "--keep-going")
        paths = [path for path, _ in server.asked if "owner/judge" in path]
    assert failed.returncode == 1
    models = checkout / "results" / "hub" / "models"
    assert {path.name for path in models.iterdir()} == {"policy", "generator"}
    assert paths == ["/api/models/owner/judge"]  # nothing of it was downloaded
    log = (checkout / "results" / "hub" / "logs" / "models" / "judge.log").read_text()
    assert "error: owner/judge: needs 1000000000.0 GB on the disk of " in log


def test_a_policy_of_others_is_pinned_fetched_and_renewed_as_a_model(checkout, repos):
    preset(checkout)
    path = checkout / "config" / "presets" / "hub.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(values | {"judge": values["judge"] | {"hub": None}}))
    (checkout / "config.yaml").write_text(
        (checkout / "config.yaml").read_text().replace("published: []", "published: [{name: theirs, repo: others/hps}]")
    )
    target, lock = "results/hub/published/theirs", checkout / hub_lock.LOCK
    with serving(repos | {"others/hps": repos["owner/policy"]}) as server:
        assert snakemake(server, checkout, "pin").returncode == 0
        assert ("model", "others/hps") in hub_lock.read(lock)
        fetched = snakemake(server, checkout, target)
        assert fetched.returncode == 0, fetched.stderr
        facts = files.read_json(checkout / target / "model.json")
        assert (facts["role"], facts["repo"], facts["pinned"]) == ("published", "others/hps", True)
        assert planned_jobs(snakemake(server, checkout, "fetch", "--dry-run")).get("fetch_published") is None
        server.repos["others/hps"] = repos["owner/policy"].renewed()
        assert snakemake(server, checkout, "pin").returncode == 0
        planned = planned_jobs(snakemake(server, checkout, target, "--dry-run"))
        assert planned == {"fetch_published": 1, "total": 1}


ENDPOINT = {"HPS_JUDGE_URL": "http://localhost:8000/v1", "HPS_JUDGE_MODEL": "judge-1", "HPS_JUDGE_KEY": "none"}
PAPER_ROLES = 4


def paper(folder, *words, **environment) -> subprocess.CompletedProcess:
    """A run without a hub that holds anything; the last words are its configuration."""
    with serving({}) as server:
        env = server.environment(folder / "cache", HPS_DATA_DIR="", **environment)
        return called("-m", "snakemake", "--cores", "1", *words, folder=folder, env=env)


@pytest.mark.parametrize(
    ("given", "judge"),
    [
        ([], 1),
        (["judge={hub: null}"], 0),  # a hosted endpoint
        (["grid={losses: [bt, pl]}", "ablations={methods: [dpo-bt]}"], 0),  # nothing to judge
    ],
)
def test_preset_paper_fetches_its_models_and_data_and_nothing_else(checkout, given, judge):
    done = paper(checkout, "--dry-run", "fetch", "--config", "preset=paper", *given)
    models = PAPER_ROLES + judge
    assert planned_jobs(done) == {
        "fetch_model": models,
        "download": 2,
        "human_pairs": 2,
        "fetch": 1,
        "total": models + 5,
    }
    assert ("results/paper/models/judge" in done.stdout) == bool(judge)
    # What is said not to be pinned is what would be taken.
    started = paper(checkout, "results/paper/config.json", "--config", "preset=paper", *given)
    assert started.returncode == 0, started.stderr
    line = next(line for line in started.stderr.splitlines() if line.startswith("Not pinned in config/hub.lock.yaml:"))
    assert "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2" in line
    assert ("Qwen/Qwen2.5-72B-Instruct" in line) == bool(judge)


def test_judging_asks_an_endpoint_and_needs_no_model_of_the_judge(checkout):
    for target in ("table4", "all"):
        done = paper(checkout, "--dry-run", target, "--config", "preset=paper", **ENDPOINT)
        planned = planned_jobs(done)
        assert (planned["judge"], planned["fetch_model"]) == (1, PAPER_ROLES)
        assert "models/judge" not in done.stdout
