"""Preset and protocols against the values that the paper and its released code state, written down here once more."""

import pytest
from test_config import load

PAPER = {  # arXiv 2502.14400v5, Sec. 6 and Appendix D.1
    "grid.n": 100,
    "grid.rewards": ["dpo", "exo", "ipo", "sppo", "nca"],
    "grid.losses": ["pl", "bt", "hps"],
    "candidates.n": 100,
    "candidates.temperature": 0.9,
    "candidates.top_p": 1.0,
    "candidates.human_first": False,
    "candidates.max_new_tokens": 2048,
    "ablations.dataset": "hh_rlhf",
    "ablations.methods": ["dpo-bt", "dpo-hps"],
    "ablations.n": [5, 20, 50, 100],
    "ablations.beta": [0.1, 0.25, 0.5, 0.75, 1.0],
    "objective.beta": 0.1,
    "objective.multiplicity": "n_minus_1",
    "objective.gamma_levels": [-5, -2.5, 0, 2.5, 5],
    "objective.gamma_follows": "step",
    "objective.hyperparameters.dpo.label_smoothing": 0,
    "objective.pl_responses": 0,
    "training.adapter": "lora",
    "training.lora_rank": 8,
    "training.lora_alpha": 16,
    "training.learning_rate": 5e-7,
    "training.epochs": 2,
    "training.concatenate_epochs": False,
    "training.batch_size": 64,
    "training.max_length": 2048,
    "compute.processes": 4,
    "evaluation.samples": 5,
    "evaluation.temperature": 0.9,
    "evaluation.max_new_tokens": 2048,
    "evaluation.pick": "per_metric",
    "evaluation.bleu_reference": "chosen",
    "data.train_from_fraction": 0.0,
}
CODE = {  # github.com/LVLab-SMU/HPS at 606b7ce
    "grid.n": 100,
    "candidates.n": 100,
    "candidates.temperature": 0.9,
    "candidates.top_p": 1.0,
    "candidates.human_first": True,
    "candidates.max_new_tokens": 2048,
    "objective.beta": 0.25,
    "objective.multiplicity": 1,
    "objective.gamma_levels": [-5, -3, -1, 1, 3],
    "objective.gamma_follows": "dataset",
    "objective.hyperparameters.dpo.label_smoothing": 0.1,
    "training.adapter": "full",
    "training.lora_rank": 8,
    "training.lora_alpha": 16,
    "training.lora_targets": ["q_proj", "v_proj"],
    "training.learning_rate": 5e-7,
    "training.epochs": 2,
    "training.concatenate_epochs": True,
    "training.batch_size": 16,
    "training.max_length": 2048,
    "evaluation.samples": 5,
    "evaluation.temperature": 0.9,
    "evaluation.pick": "by_reward",
    "evaluation.bleu": "char",
    "evaluation.bleu_reference": "best_reward",
    "data.train_from_fraction": 0.6,
}
BOTH = {  # the repositories that the released code names; the paper names the models
    "models.policy.repo": "RLHFlow/Llama3-SFT-v2.0-epoch3",
    "models.generator.repo": "RLHFlow/Llama3-v2-iterative-DPO-iter3",
    "models.reward.repo": "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2",
    "models.eval_reward.repo": "RLHFlow/ArmoRM-Llama3-8B-v0.1",
    "judge.source": "openai",
    "judge.hub.repo": "Qwen/Qwen2.5-72B-Instruct",
    "data.hh_rlhf.hub": "Anthropic/hh-rlhf",
    "data.pku_saferlhf.hub": "PKU-Alignment/PKU-SafeRLHF",
}
VALUES = [("paper", *one) for one in (PAPER | BOTH).items()] + [
    ("released_code", *one) for one in (CODE | BOTH).items()
]


@pytest.fixture(scope="module")
def resolved():
    return {protocol: load(preset="paper", protocol=protocol).values for protocol in ("paper", "released_code")}


@pytest.mark.parametrize(("protocol", "key", "value"), VALUES)
def test_preset_paper_has_the_sources_values(resolved, protocol, key, value):
    found = resolved[protocol]
    for part in key.split("."):
        found = found[part]
    assert found == value


@pytest.mark.parametrize("role", ["policy", "generator", "reward", "eval_reward"])
def test_no_revision_is_made_up(resolved, role):
    """Commits are pinned by what the hub says (config/hub.lock.yaml), not by the preset."""
    assert resolved["paper"]["models"][role]["revision"] == ""
    assert resolved["paper"]["judge"]["hub"]["revision"] == ""


@pytest.mark.parametrize("preset", ["tiny", "smollm2"])
def test_no_other_preset_has_a_judge_to_download(preset):
    assert load(preset=preset)["judge"]["hub"] is None
