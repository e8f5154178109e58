"""The training loop: one run of (reward, loss, n, beta) on one data set, resumable bit for bit."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, InitProcessGroupKwargs

from hps.logprobs.scorer import Group, SequenceScorer
from hps.method.objectives import Objective
from hps.method.sampling import draw_negative, gamma_at, hardness
from hps.support import progress
from hps.support.errors import InputError
from hps.support.files import stable_hash
from hps.training import sharding
from hps.training.checkpoints import Checkpoints
from hps.training.examples import Example

STEP_ZERO_NATS = {torch.float32: 1e-3, torch.bfloat16: 0.5}
"""How far log-ratios may be from 0 before the first step, in nats a response, by the type of the weights: rounding."""
ROUNDING_TOKENS = 128
"""Response length up to which that limit holds as it is. Rounding adds up token by token like a random walk, so a
longer response may be off by the square root of the ratio more."""
PATIENCE = timedelta(minutes=10)
"""How long a process waits for the others: longer than a step or a checkpoint takes. When one of them dies, the
launcher notices at once and ends the rest; this is for one that lives and does not come."""
NOTHING = Group([0], [[0, 0]])
"""What a device computes when only others have a micro-batch left."""


@dataclass(frozen=True)
class Schedule:
    """How a run goes through its prompts."""

    epochs: int
    concatenate_epochs: bool
    batch_size: int  # prompts a step, over all devices
    learning_rate: float
    weight_decay: float
    max_grad_norm: float
    gamma_levels: list[float]
    gamma_follows: str  # step, dataset
    seed: int
    checkpoint_every: int  # steps


@dataclass(frozen=True)
class Item:
    """A prompt in one pass over the data."""

    epoch: int
    example: Example
    gamma: float


def start() -> Accelerator:
    """This process among those that the launcher started."""
    # Said outright: without a GPU, processes started by the launcher would each take themselves for the only one.
    return Accelerator(cpu=not torch.cuda.is_available(), kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])


class Trainer:
    """Trains the parameters of `model` that require gradients.

    The gradient of a step is that of the mean loss over its `batch_size` prompts, however the prompts are spread over
    devices and cut into micro-batches: devices sum their gradients, and each prompt is weighted by one over the batch.

    Args:
        model: on the device; with `sharded`, on the CPU.
        batch_tokens: tokens of a micro-batch.
        sharded: all weights are trained, and the devices share them (`sharding.py`).

    Raises:
        InputError: `batch_size` does not divide by the number of devices.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: torch.nn.Module,
        objective: Objective,
        examples: Sequence[Example],
        schedule: Schedule,
        batch_tokens: int,
        sharded: bool = False,
    ):
        if schedule.batch_size % accelerator.num_processes:
            raise InputError(
                "training.batch_size", f"{schedule.batch_size} does not divide by {accelerator.num_processes} devices"
            )
        self.accelerator = accelerator
        self.model = model.eval()  # no dropout, and so no randomness but the draws
        self.objective = objective
        self.schedule = schedule
        self.sharded = sharded
        self.in_step = partial(sharding.most, device=accelerator.device) if sharded else int
        self.scorer = SequenceScorer(model, batch_tokens, self.in_step)
        if sharded:
            sharding.shard(self.scorer.halves, accelerator.device)
        self.batches = plan(examples, schedule)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.uses_drawn_negative = objective.loss.samples_negative

    def run(self, checkpoints: Checkpoints) -> dict[str, Any]:
        """Train from the last checkpoint, if there is one, to the end; returns steps, seconds and tokens."""
        done = checkpoints.load(self.parameters, self.optimizer)
        found = self.accelerator.gather(torch.tensor([done.steps], device=self.accelerator.device))
        if found.min() != found.max():
            raise checkpoints.changed()
        main = self.accelerator.is_main_process
        if main:
            checkpoints.start_log()
        bar = progress.bar(total=len(self.batches), initial=done.steps, what="train", unit="step") if main else None
        for step in range(done.steps, len(self.batches)):
            started = time.perf_counter()
            row = self.step(step)
            seconds = time.perf_counter() - started
            done = done.after(step=1, seconds=seconds, tokens=row["tokens"])
            if main:
                checkpoints.log(row | {"seconds": seconds, "tokens_per_second": row["tokens"] / seconds})
                bar.update()
            due = done.steps % self.schedule.checkpoint_every == 0 and done.steps < len(self.batches)
            if due and (main or self.sharded):
                checkpoints.save(done, self.parameters, self.optimizer)
        if main:
            bar.close()
        self.accelerator.wait_for_everyone()
        return {"steps": done.steps, "seconds": done.seconds, "tokens": done.tokens}

    def step(self, step: int) -> dict[str, Any]:
        """One optimizer step; returns its log row (`tokens` are the distinct tokens of the whole batch)."""
        batch = self.batches[step]
        rate = self.schedule.learning_rate * 0.5 * (1 + math.cos(math.pi * step / len(self.batches)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        mine = batch[self.accelerator.process_index :: self.accelerator.num_processes]
        prepared = [self.prepare(item) for item in mine]
        # Prompts of similar length share a micro-batch, so attention pads little.
        prepared.sort(key=lambda p: (len(p.group.prompt), p.item.example.prompt_id))
        micro_batches = list(self.scorer.packed(prepared, lambda p: p.group))
        idle = self.in_step(len(micro_batches)) - len(micro_batches)
        totals = torch.zeros(6, dtype=torch.float64)
        for micro_batch in micro_batches:
            totals += self.backward(micro_batch, len(batch))
        for _ in range(idle):
            self.scorer.backward([NOTHING], lambda log_probs: 0 * log_probs.sum())
        totals = self.accelerator.reduce(totals.to(self.accelerator.device), "sum")
        loss, margin, hard, tokens, distance, responses = totals.tolist()
        if step == 0:
            self.check_start(distance / responses)
        self.sum_gradients()
        norm = self.clip_gradients()
        if not math.isfinite(loss) or not math.isfinite(norm):
            raise ArithmeticError(f"step {step}: loss {loss}, gradient norm {norm}")
        self.optimizer.step()
        return {
            "step": step,
            "epoch": batch[0].epoch,
            "loss": loss / len(batch),
            "margin": margin / len(batch),
            "grad_norm": norm,
            "learning_rate": rate,
            "gamma": _finite(np.mean([item.gamma for item in batch])) if self.uses_drawn_negative else None,
            "hardness": hard / len(batch) if self.uses_drawn_negative else None,
            "tokens": int(tokens),
        }

    def prepare(self, item: Item) -> Prepared:
        """Draw the negative (HPS) and pick the responses whose log-probs the loss needs."""
        example = item.example
        negative = None
        if self.uses_drawn_negative:
            negative = draw_negative(
                example.rewards, item.gamma, seed=self.schedule.seed, epoch=item.epoch, prompt_id=example.prompt_id
            )
        uses = self.objective.uses(
            torch.from_numpy(example.rewards)[None], negatives=None if negative is None else torch.tensor([negative])
        )[0]
        used = uses.nonzero().flatten().tolist()
        return Prepared(item, negative, used, Group(example.prompt, [example.responses[i] for i in used]))

    def backward(self, prepared: list[Prepared], batch_size: int) -> torch.Tensor:
        """Add the gradient of these prompts' share of the mean loss.

        Returns (6,) sums: over the prompts, loss, margin beta (rho_best - rho_negative), hardness of the drawn
        negative and distinct tokens; over the responses, the |log-ratio| that `check_start` looks at, and their number.

        What follows the log-probs is a few numbers a prompt and computed on the CPU: a GPU is waited for once a
        micro-batch and not at each of these operations.
        """
        width = max(len(p.item.example.rewards) for p in prepared)
        rows = torch.tensor([row for row, p in enumerate(prepared) for _ in p.used])
        columns = torch.tensor([i for p in prepared for i in p.used])
        rewards, reference = (torch.zeros(len(prepared), width, dtype=torch.float64) for _ in range(2))
        mask = torch.zeros(len(prepared), width, dtype=torch.bool)
        lengths = torch.ones(len(prepared), width, dtype=torch.float64)
        for row, p in enumerate(prepared):
            example, n = p.item.example, len(p.item.example.rewards)
            rewards[row, :n] = torch.from_numpy(example.rewards)
            reference[row, :n] = torch.from_numpy(example.reference)
            lengths[row, :n] = torch.from_numpy(example.responses.lengths)
            mask[row, :n] = True
        negatives = torch.tensor([p.negative for p in prepared]) if self.uses_drawn_negative else None
        gamma = torch.tensor([p.item.gamma for p in prepared]) if self.objective.loss.needs_gamma else None

        def log_ratios(log_probs: torch.Tensor) -> torch.Tensor:
            full = torch.zeros_like(rewards).index_put((rows, columns), log_probs.cpu().double())
            if self.objective.parameterization.needs_reference:
                full = full - reference
            if self.objective.parameterization.length_normalised:
                full = full / lengths
            return full.where(used, full.new_zeros(()))

        used = torch.zeros_like(mask).index_put((rows, columns), torch.ones_like(rows, dtype=torch.bool))
        losses: list[torch.Tensor] = []

        def loss(log_probs: torch.Tensor) -> torch.Tensor:
            losses.append(self.objective(log_ratios(log_probs), rewards, mask, negatives, gamma))
            return losses[-1].sum() / batch_size

        log_probs = self.scorer.backward([p.group for p in prepared], loss)
        rho = log_ratios(log_probs)
        best = rewards.masked_fill(~mask, -math.inf).argmax(1, keepdim=True)
        worst = rewards.masked_fill(~mask, math.inf).argmin(1, keepdim=True)
        against = worst if negatives is None else negatives.unsqueeze(1)
        margin = self.objective.beta * (rho.gather(1, best) - rho.gather(1, against)).sum()
        hard = sum(hardness(p.item.example.rewards, p.negative) for p in prepared if p.negative is not None)
        distance = 0.0
        if self.objective.parameterization.needs_reference:
            distance = float((rho.abs() * (ROUNDING_TOKENS / lengths.clamp(min=ROUNDING_TOKENS)).sqrt()).sum())
        tokens = sum(p.group.tokens for p in prepared)
        total = float(losses[-1].detach().sum())
        return torch.tensor([total, float(margin), hard, tokens, distance, len(rows)], dtype=torch.float64)

    def check_start(self, distance: float) -> None:
        """Policy and reference are one model before the first step, so log-ratios are rounding.

        Anything larger means that template, reference or adapter are not what the log-probs were computed with.
        """
        limit = STEP_ZERO_NATS[self.scorer.head.weight.dtype]
        logging.info("step 0: |log-ratio| %.2g nats a response (limit %.2g)", distance, limit)
        if distance > limit:
            raise InputError(
                "reference",
                f"log-ratios are {distance:.3g} nats a response before the first step, where policy = reference",
            )

    def clip_gradients(self) -> float:
        """Clip the gradient to `max_grad_norm`; returns the norm that it had."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = sharding.whole(torch.nn.utils.get_total_norm(gradients))
        torch.nn.utils.clip_grads_with_norm_(self.parameters.values(), self.schedule.max_grad_norm, norm)
        return float(norm)

    def sum_gradients(self) -> None:
        """Sum the gradients over the devices. A device without prompts in this step adds zeros."""
        if self.accelerator.num_processes == 1 or self.sharded:  # shards are summed as they are computed
            return
        for parameter in self.parameters.values():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad = self.accelerator.reduce(parameter.grad, "sum")


@dataclass(frozen=True)
class Prepared:
    """An item, ready for the forward pass: `used` are the responses the loss needs, `negative` the drawn one."""

    item: Item
    negative: int | None
    used: list[int]
    group: Group


def plan(examples: Sequence[Example], schedule: Schedule) -> list[list[Item]]:
    """The batches of a run, in order: which prompts, in which pass, at which gamma.

    Each pass is shuffled by itself; with `concatenate_epochs` all passes are shuffled together (released code). gamma
    rises over training (`step`), or over an order of the data set that has nothing to do with the order of training
    (`dataset`: the released code anneals it over the data set, which the trainer then shuffles).
    """
    passes = [
        [(epoch, number) for number in _shuffled(len(examples), schedule.seed, "order", epoch)]
        for epoch in range(schedule.epochs)
    ]
    if schedule.concatenate_epochs:
        together = [item for one in passes for item in one]
        passes = [[together[i] for i in _shuffled(len(together), schedule.seed, "order", "all")]]
    size = schedule.batch_size
    batches = [one[i : i + size] for one in passes for i in range(0, len(one), size)]
    total = schedule.epochs * len(examples)
    place = _shuffled(total, schedule.seed, "gamma")
    planned = []
    position = 0
    for step, batch in enumerate(batches):
        items = []
        for epoch, number in batch:
            reached = step / len(batches) if schedule.gamma_follows == "step" else place[position] / total
            items.append(Item(epoch, examples[number], gamma_at(reached, schedule.gamma_levels)))
            position += 1
        planned.append(items)
    return planned


def _finite(value: float) -> float | None:
    """JSON has no infinity, which is the gamma of the hardest negative."""
    return float(value) if math.isfinite(value) else None


def _shuffled(size: int, *seed: object) -> list[int]:
    return np.random.default_rng(stable_hash(*seed)).permutation(size).tolist()
