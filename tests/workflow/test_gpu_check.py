"""`make gpu-check` where there is no GPU: every part runs, on a model the size of a thumbnail."""

import json
from dataclasses import replace

import pytest
import torch
from conftest import ROOT, called, python_environment

from benchmarks import gpu, gpu_check, gpu_correct, report
from hps.planning import rates

# What a GPU's machine may lack of requirements.txt, TRL among it, cannot be found.
LACKING = """import sys
from importlib.machinery import PathFinder
LACKS = {"argparse_dataclass", "datasets", "gguf", "jsonschema", "krippendorff", "matplotlib", "openai", "pandas"}
LACKS |= {"pytest", "sacrebleu", "snakemake", "trl"}
class Lacking(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name in LACKS else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Lacking
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    out, lacking = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("lacking")
    (lacking / "sitecustomize.py").write_text(LACKING)
    path = f"{lacking}:{ROOT}:{ROOT / 'workflow_scripts'}"
    environment = python_environment(PYTHONPATH=path, CUDA_VISIBLE_DEVICES="")
    done = called("-m", "benchmarks.gpu_check", "--out", out, "--slower", "100", env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = out.glob("*.json")
    assert path.with_suffix(".md").is_file()
    return json.loads(path.read_text())


def test_every_part_comes_to_its_end(results):
    parts = {part["name"]: part for part in results["parts"]}
    assert list(parts) == list(gpu_check.PARTS) == list(gpu_check.MEASUREMENTS)
    assert {part["error"] for part in parts.values()} == {""}
    assert {name: part["skipped"] for name, part in parts.items() if part["skipped"]} == {"trl": "TRL is not installed"}


def test_the_checks_hold_on_the_cpu_itself(results):
    assert len(results["checks"]) == 6
    assert [check["name"] for check in results["checks"] if not check["holds"]] == []


def test_everything_that_is_asked_of_a_gpu_is_measured(results):
    names = {f"{loss}_{dataset}" for loss in ("bt", "hps", "pl") for dataset in ("hh_rlhf", "pku_saferlhf")}
    assert {entry["name"] for entry in results["speeds"]} == names
    assert all(entry["tokens_per_second"] > 0 and entry["peak_memory"] > 0 for entry in results["speeds"])
    rows = {row["name"]: row for row in results["rows"]}
    assert rows["compile_bt"]["ratio"]["median"] > 0
    assert rows["annotation"]["responses_per_second"]["ours"] > 0
    tried = {(entry["name"], entry["loss"]): [] for entry in results["choices"]}
    for entry in results["choices"]:
        tried[entry["name"], entry["loss"]].append(entry["value"])
        assert entry["seconds"]["median"] > 0
    assert {(name.rpartition(".")[2], loss): len(values) for (name, loss), values in tried.items()} == {
        ("CALL_PAIRS", "bt"): 5, ("CALL_PAIRS", "pl"): 5, ("HEAD_LOGITS", "bt"): 4, ("HEAD_LOGITS", "pl"): 4,
    }  # fmt: skip


def test_the_plan_reads_what_a_gpu_gave(results, tmp_path):
    machine = results["machine"] | {"device": "cuda", "gpu": "NVIDIA H100 80GB HBM3"}
    (tmp_path / "h100.json").write_text(json.dumps(results | {"machine": machine}))
    found = rates.load(tmp_path, "h100")
    assert found.assumptions == [f"rates measured on NVIDIA H100 80GB HBM3 ({machine['code']})"]
    assert {entry["work"] for entry in found.measured} == {"train", "train_group", "score", "annotate", "generate"}


def test_a_difference_beyond_rounding_is_told(monkeypatch):
    setting = gpu.RandomWeights.of_a_thumbnail("cpu", 1)
    reward_model = gpu.RandomWeights.reward_model
    made = []

    def second_is_wrong(self):
        made.append(reward_model(self))
        if len(made) == 2:
            made[1].load_state_dict = lambda _: made[1].score.weight.data.mul_(1.001)
        return made[-1]

    monkeypatch.setattr(gpu.RandomWeights, "reward_model", second_is_wrong)
    with pytest.raises(gpu_correct.Wrong, match=r"rewards: a relative difference of 0\.001, where 0\.0001 are allowed"):
        gpu_correct.rewards(replace(setting, dtype=torch.float32))


def test_a_random_pairs_text_has_as_many_tokens():
    setting = gpu.RandomWeights.of_a_thumbnail("cpu", 1)
    tokenizer = setting.tokenizer()
    for pair in setting.pairs("hh_rlhf", 5)[0]:
        for ids in (pair.prompt, pair.chosen, pair.rejected):
            assert tokenizer.encode(tokenizer.decode(ids), add_special_tokens=False) == ids


def a_part(monkeypatch, measure) -> None:
    """The only part, on whatever device."""
    monkeypatch.setattr(gpu_check, "setting", lambda: None)
    monkeypatch.setattr(gpu_check, "MEASUREMENTS", {"rates": measure})


def read(folder) -> dict:
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


def test_a_part_that_fails_keeps_what_it_has_and_says_why(tmp_path, monkeypatch):
    def measure(_):
        yield {"checks": [{"name": "a", "holds": True, "said": ""}]}
        raise RuntimeError("CUDA error: an illegal\nmemory access")

    a_part(monkeypatch, measure)
    with pytest.raises(SystemExit) as ended:
        gpu_check.alone("rates", str(tmp_path))
    assert ended.value.code == gpu_check.FAILED
    found = read(tmp_path)
    assert [check["name"] for check in found["checks"]] == ["a"]
    assert [part["error"] for part in found["parts"]] == ["RuntimeError: CUDA error: an illegal memory access"]
    assert "an illegal memory access" in next(tmp_path.glob("*.md")).read_text()


def test_a_part_without_time_is_recorded_and_not_begun(tmp_path):
    assert not gpu_check.in_process("rates", str(tmp_path), gpu_check.LEAST - 1)
    assert [part["error"] for part in read(tmp_path)["parts"]] == ["no time was left"]


def test_a_part_that_is_not_done_in_time_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "LEAST", 0)
    assert not gpu_check.in_process("rates", str(tmp_path), 0.2)
    assert [part["error"] for part in read(tmp_path)["parts"]] == ["was not done in 0 s"]


def test_a_second_run_replaces_what_it_measures_again():
    for section, entries in (
        ("checks", [{"name": "a"}]),
        ("choices", [{"name": "a", "value": 1, "loss": "bt"}]),
        ("parts", [{"name": "a"}]),
    ):
        assert len({report.SECTIONS[section](entry) for entry in entries * 2}) == 1
