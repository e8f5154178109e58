"""The training loop: one run of (reward, loss, n, beta) on one data set, resumable bit for bit."""

from __future__ import annotations

import json
import logging
import math
import os
import re
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
from hps.method import ranking
from hps.method.objectives import Objective
from hps.method.sampling import draw_negative, gamma_at, hardness, negative_near
from hps.support import progress
from hps.support.errors import InputError
from hps.support.files import stable_hash
from hps.training import sharding
from hps.training.checkpoints import Checkpoints
from hps.training.examples import Example

STEP_ZERO_NATS = {torch.float32: 1e-3, torch.bfloat16: 1.0}
"""How far log-ratios may be from 0 before the first step, in nats a response, by the type of the weights: rounding.
In bfloat16 it was 0.09 to 0.56 over 42 trainings of SmolLM2-135M on a GPU, whose first batches have 8 responses or
more; a wrong template or reference is off by many nats."""
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
    negative: str  # drawn, mean_minus_2sd
    gamma_levels: list[float]
    gamma_follows: str  # step, dataset
    seed: int
    checkpoint_every: int  # steps


@dataclass(frozen=True)
class PlannedPrompt:
    """A prompt in one pass over the data."""

    epoch: int
    number: int  # of the prompt among the examples
    gamma: float


LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables by which a launcher tells a process its place among the others."""
FOREIGN = re.compile(r"(OMPI_COMM_WORLD|PMI|MV2_COMM_WORLD|MPI_LOCAL)_\w+")
"""Variables of other launchers, which accelerate reads before its own: a cluster's shell may hold them."""


def start(processes: int) -> Accelerator:
    """This process among the `processes` that the launcher started.

    What a shell has of another launcher's variables is not looked at. Raises InputError naming the setting when the
    launcher has started another number.
    """
    for name in [name for name in os.environ if FOREIGN.fullmatch(name)]:
        del os.environ[name]
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # no launcher of several processes has started this one
        for name in [name for name in os.environ if name in LAUNCHER or name.startswith("ACCELERATE_")]:
            del os.environ[name]
    started = os.environ.get("WORLD_SIZE", "1")
    if started != str(processes):
        raise InputError("compute.processes", f"{processes} asked for, but {started} were started")
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
        self.examples = examples
        self.batches = plan(len(examples), schedule)
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.uses_drawn_negative = objective.loss.samples_negative
        self.follows_gamma = self.uses_drawn_negative and schedule.negative == "drawn"
        self.last_loss: float | None = None

    def run(self, checkpoints: Checkpoints) -> dict[str, Any]:
        """Train from the last checkpoint, if there is one, to the end; returns steps, seconds and tokens."""
        done = checkpoints.load(self.parameters, self.optimizer)
        self.last_loss = json.loads(checkpoints.rows[-1])["loss"] if checkpoints.rows else None
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
        prepared.sort(key=lambda p: (len(p.group.prompt), p.example.prompt_id))
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
            raise self.diverged(step, loss / len(batch), norm)
        self.last_loss = loss / len(batch)
        self.optimizer.step()
        return {
            "step": step,
            "epoch": batch[0].epoch,
            "loss": loss / len(batch),
            "margin": margin / len(batch),
            "grad_norm": norm,
            "learning_rate": rate,
            "gamma": _finite(np.mean([item.gamma for item in batch])) if self.follows_gamma else None,
            "hardness": hard / len(batch) if self.uses_drawn_negative else None,
            "tokens": int(tokens),
        }

    def prepare(self, item: PlannedPrompt) -> Prepared:
        """Draw or choose the negative (HPS) and pick the responses whose log-probs the loss needs."""
        example = self.examples[item.number]
        negative = None
        if self.follows_gamma:
            negative = draw_negative(
                example.rewards, item.gamma, seed=self.schedule.seed, epoch=item.epoch, prompt_id=example.prompt_id
            )
        elif self.uses_drawn_negative:
            negative = negative_near(example.rewards)
        uses = self.objective.uses(
            torch.from_numpy(example.rewards)[None], negatives=None if negative is None else torch.tensor([negative])
        )[0]
        used = uses.nonzero().flatten().tolist()
        return Prepared(item, example, negative, used, Group(example.prompt, [example.responses[i] for i in used]))

    def backward(self, prepared: list[Prepared], batch_size: int) -> torch.Tensor:
        """Add the gradient of these prompts' share of the mean loss.

        Returns (6,) sums: over the prompts, loss, margin beta (rho_best - rho_negative, of losses that draw none
        rho_worst), hardness of the drawn negative and distinct tokens; over the responses, the |log-ratio| that
        `check_start` looks at, and their number.

        What follows the log-probs is a few numbers a prompt and computed on the CPU: a GPU is waited for once a
        micro-batch and not at each of these operations.
        """
        width = max(len(p.example.rewards) for p in prepared)
        rows = torch.tensor([row for row, p in enumerate(prepared) for _ in p.used])
        columns = torch.tensor([i for p in prepared for i in p.used])
        rewards, reference = (torch.zeros(len(prepared), width, dtype=torch.float64) for _ in range(2))
        mask = torch.zeros(len(prepared), width, dtype=torch.bool)
        lengths = torch.ones(len(prepared), width, dtype=torch.float64)
        for row, p in enumerate(prepared):
            example, n = p.example, len(p.example.rewards)
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
        best = torch.tensor([[ranking.best(p.example.rewards)] for p in prepared])
        worst = torch.tensor([[ranking.worst(p.example.rewards)] for p in prepared])
        against = worst if negatives is None else negatives.unsqueeze(1)
        margin = self.objective.beta * (rho.gather(1, best) - rho.gather(1, against)).sum()
        hard = sum(hardness(p.example.rewards, p.negative) for p in prepared if p.negative is not None)
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
        """Sum the gradients over the devices, all in one message. A device without prompts in this step adds zeros."""
        if self.accelerator.num_processes == 1 or self.sharded:  # shards are summed as they are computed
            return
        flat = torch.cat(
            [
                (torch.zeros_like(parameter) if parameter.grad is None else parameter.grad).flatten()
                for parameter in self.parameters.values()
            ]
        )
        summed = self.accelerator.reduce(flat, "sum").split([one.numel() for one in self.parameters.values()])
        for parameter, gradient in zip(self.parameters.values(), summed, strict=True):
            parameter.grad = gradient.view_as(parameter)

    def diverged(self, step: int, loss: float, norm: float) -> InputError:
        """What is wrong when a step's loss or gradient is no number."""
        last = "no loss was finite" if self.last_loss is None else f"the last finite loss was {self.last_loss:.4g}"
        return InputError(
            "training.learning_rate",
            f"{self.schedule.learning_rate:g}: the training diverged: at step {step} the loss is {loss:g} and the norm "
            f"of its gradient {norm:g}; {last}",
        )


@dataclass(frozen=True)
class Prepared:
    """An item, ready for the forward pass: `used` are the responses the loss needs, `negative` the drawn one."""

    item: PlannedPrompt
    example: Example
    negative: int | None
    used: list[int]
    group: Group


def plan(prompts: int, schedule: Schedule) -> list[list[PlannedPrompt]]:
    """The batches of a run, in order: which of so many `prompts`, in which pass, at which gamma.

    Each pass is shuffled by itself; with `concatenate_epochs` all passes are shuffled together (released code). gamma
    rises over training (`step`), or over an order of the data set that has nothing to do with the order of training
    (`dataset`: the released code anneals it over the data set, which the trainer then shuffles).
    """
    passes = [
        [(epoch, number) for number in _shuffled(prompts, schedule.seed, "order", epoch)]
        for epoch in range(schedule.epochs)
    ]
    if schedule.concatenate_epochs:
        together = [item for one in passes for item in one]
        passes = [[together[i] for i in _shuffled(len(together), schedule.seed, "order", "all")]]
    size = schedule.batch_size
    batches = [one[i : i + size] for one in passes for i in range(0, len(one), size)]
    total = schedule.epochs * prompts
    place = _shuffled(total, schedule.seed, "gamma")
    planned = []
    position = 0
    for step, batch in enumerate(batches):
        items = []
        for epoch, number in batch:
            reached = step / len(batches) if schedule.gamma_follows == "step" else place[position] / total
            items.append(PlannedPrompt(epoch, number, gamma_at(reached, schedule.gamma_levels)))
            position += 1
        planned.append(items)
    return planned


def _finite(value: float) -> float | None:
    """JSON has no infinity, which is the gamma of the hardest negative."""
    return float(value) if math.isfinite(value) else None


def _shuffled(size: int, *seed: object) -> list[int]:
    return np.random.default_rng(stable_hash(*seed)).permutation(size).tolist()
