"""The code of docs/use-in-your-trainer.md trains, with the loss of Eq. 8; `pip install .` gives what it imports."""

import math
import re
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, sentence

from hps.logprobs.scorer import Group, SequenceScorer
from hps.method.objectives import Objective
from hps.models.sources import load_causal, load_tokenizer

TRL, LOOP = re.findall(r"```python\n(.*?)```", (ROOT / "docs/use-in-your-trainer.md").read_text(), re.DOTALL)


@pytest.fixture
def policy(model_folder):
    return load_causal(model_folder, dtype=torch.float32)


def test_the_plain_loop(model_folder, policy):
    tokenizer = load_tokenizer(model_folder)
    prompts = []
    for number in range(3):
        ids = [tokenizer(sentence(5 * number + i, 6))["input_ids"] for i in range(5)]
        prompts.append({"id": str(number), "prompt": ids[0], "responses": ids[1:], "rewards": [1.0, 3.0, 2.0, 0.0]})
    groups = [Group(one["prompt"], one["responses"]) for one in prompts]
    for one, log_probs in zip(prompts, SequenceScorer(policy, 4096).score(groups), strict=True):
        one["reference"] = log_probs
    names = {"policy": policy, "prompts": prompts}
    exec(LOOP.replace("lr=5e-7", "lr=1e-3"), names)
    after = SequenceScorer(policy, 4096).score(groups)
    for one, log_probs in zip(prompts, after, strict=True):
        ratios = [new - old for new, old in zip(log_probs, one["reference"], strict=True)]
        assert max(ratios) == ratios[1]  # the best has risen most


def test_trl(model_folder, policy, tmp_path):
    pytest.importorskip("trl")
    prompts = [
        {
            "id": str(number),
            "prompt": [{"role": "user", "content": sentence(number, 5)}],
            "responses": [[{"role": "assistant", "content": sentence(number * 4 + i, 4)}] for i in range(4)],
            "rewards": [1.0, 3.0, 2.0, 0.0],
        }
        for number in range(2)
    ]
    settings = {
        **{"output_dir": str(tmp_path), "per_device_train_batch_size": 1, "num_train_epochs": 1, "report_to": []},
        **{"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "logging_steps": 1, "save_strategy": "no"},
        **{"disable_tqdm": True},
    }
    names = {"model": policy, "tokenizer": load_tokenizer(model_folder), "prompts": prompts, "settings": settings}
    exec(TRL, names)
    # Before the first step all log-ratios are zero, so the loss is that of Eq. 8 with N = 3.
    objective = Objective("dpo", "hps", beta=0.1)
    rewards = torch.tensor([prompts[0]["rewards"]])
    expected = objective(torch.zeros_like(rewards), rewards, negatives=torch.tensor([2])).item()
    assert expected == pytest.approx(math.log1p(3))
    first = names["trainer"].state.log_history[0]["loss"]
    assert first == pytest.approx(expected, abs=1e-4)


@pytest.mark.workflow
def test_pip_install_gives_the_package(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "workflow_scripts", source / "workflow_scripts", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    target = tmp_path / "target"
    words = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", "--target", str(target), str(source)]
    subprocess.run([sys.executable, "-m", "pip", "install", *words], check=True)
    code = "from hps.method import objectives, sampling; from hps.logprobs import scorer; print(scorer.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(target)}, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(target)), done.stderr
