"""The alternative: TRL's DPOTrainer on the same model, pairs, batches and dtype."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer

from benchmarks.inputs import Pair
from benchmarks.ours import ALPHA, RANK, TARGETS

VARIANTS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "precomputed": {"precompute_ref_log_probs": True, "gradient_checkpointing": False},
}
"""TRL as it comes; and with reference log-probs computed once beforehand and its activation checkpointing off."""


class Clock(TrainerCallback):
    """Wall time from the start of training (set-up done, first batch not yet read) to the end of its last step."""

    def __init__(self) -> None:
        self.started = self.ended = 0.0

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ended = time.perf_counter()


class Recorder(DPOTrainer):
    """DPOTrainer that is given token ids, so that both sides read the same, and keeps each step's loss unrounded."""

    losses: list[float]

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        found = super().compute_loss(*args, **kwargs)
        self.losses.append(float((found[0] if isinstance(found, tuple) else found).detach()))
        return found


class Baseline:
    """A DPOTrainer that goes through `pairs` in the given order."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        pairs: Sequence[Pair],
        batch_size: int,
        variant: str,
        work: Path,
        learning_rate: float = 1e-6,
    ):
        disable_progress_bars()
        self.batch_size = batch_size
        self.clock = Clock()
        rows = [{"prompt_ids": p.prompt, "chosen_ids": p.chosen, "rejected_ids": p.rejected} for p in pairs]
        self.trainer = Recorder(
            model=model,
            args=DPOConfig(
                output_dir=str(work),
                per_device_train_batch_size=batch_size,
                max_steps=1,
                learning_rate=learning_rate,
                lr_scheduler_type="cosine",
                bf16=model.dtype == torch.bfloat16,
                use_cpu=model.device.type == "cpu",
                train_sampling_strategy="sequential",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                logging_steps=1_000_000,
                seed=1,
                **VARIANTS[variant],
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                task_type="CAUSAL_LM", r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, target_modules=list(TARGETS)
            ),
            callbacks=[self.clock],
        )
        self.trainer.remove_callback(PrinterCallback)
        self.trainer.losses = []
        self.data = self.trainer.train_dataset

    def copy_adapters(self, model: torch.nn.Module) -> None:
        """Start from the adapters of our model."""
        ours = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        theirs = {name: p for name, p in self.trainer.model.named_parameters() if p.requires_grad}
        if ours.keys() != theirs.keys():
            raise ValueError("the adapters have other names")
        with torch.no_grad():
            for name, parameter in theirs.items():
                parameter.copy_(ours[name])

    def train(self, first_batch: int, steps: int) -> float:
        """Train on `steps` batches from `first_batch` on, with a fresh optimizer; returns the seconds."""
        start = first_batch * self.batch_size
        self.trainer.train_dataset = self.data.select(range(start, start + steps * self.batch_size))
        self.trainer.args.max_steps = steps
        self.trainer.train()
        return self.clock.ended - self.clock.started
