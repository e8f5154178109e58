"""Training steps of the Llama-3-8B architecture on a GPU: speed, peak memory, share of the GPU's bfloat16 peak.

The weights are random and made on the device, so nothing is downloaded; pairs are random tokens with lengths like those
of HH-RLHF and PKU-SafeRLHF. Any architecture and a CPU do too, which is how the code is tested without a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from benchmarks import inputs, measure, ours, throughput
from benchmarks.measure import Summary
from benchmarks.rows import Row, Setting, alike_groups
from hps.logprobs.scorer import Group
from hps.models.scratch import build_tokenizer
from hps.planning.operations import LLAMA3_8B, Architecture, shared_work
from hps.training.trainer import Trainer

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

THUMBNAIL = Architecture(2, 32, 4, 2, 64, 320, tied=True)
CHARACTERS = 100
"""Token ids below this are special ones and ASCII characters in the tokenizer here: their text has as many tokens."""


@dataclass(frozen=True, kw_only=True)
class RandomWeights(Setting):
    """With random weights in an architecture, made once, and random tokens."""

    architecture: Architecture
    batch: int = 16
    batch_tokens: int = 8192
    n: int = 100
    """Responses a prompt."""
    scale: int = 8
    """Multiplies the amount of work that rates are measured with."""
    peak_flops: float | None = None
    bandwidth: float | None = None

    @classmethod
    def of_llama(cls, device: str, repeats: int, machine: Mapping[str, Any]) -> RandomWeights:
        """Llama-3-8B's; `machine`: what `machine.describe` says of the device."""
        return cls(
            model="Llama-3-8B's architecture, random weights",
            dtype=torch.bfloat16,
            device=device,
            repeats=repeats,
            architecture=LLAMA3_8B,
            peak_flops=machine.get("peak_flops_bf16"),
            bandwidth=machine.get("bandwidth"),
        )

    @classmethod
    def of_a_thumbnail(cls, device: str, repeats: int) -> RandomWeights:
        """For tests."""
        return cls(
            model="thumbnail",
            dtype=torch.bfloat16,
            device=device,
            repeats=repeats,
            architecture=THUMBNAIL,
            batch=2,
            batch_tokens=2048,
            n=8,
            scale=1,
        )

    @functools.cached_property
    def weights(self) -> PreTrainedModel:
        return ours.random_model(self.architecture, self.dtype, self.device)

    def causal(self) -> PreTrainedModel:
        return ours.sharing(self.weights)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """One that merges nothing."""
        return build_tokenizer([""], 262)

    def reward_model(self) -> PreTrainedModel:
        return ours.random_model(self.architecture, self.dtype, self.device, outputs=1)

    def pairs(self, dataset: str, count: int) -> tuple[list[inputs.Pair], str]:
        return inputs.synthetic(dataset, count, CHARACTERS), f"random tokens, lengths as in {dataset}"

    def in_float32(self) -> RandomWeights:
        """Two layers of it."""
        return replace(self, dtype=torch.float32, architecture=replace(self.architecture, layers=2))


def suite(setting: RandomWeights) -> dict[str, Any]:
    """Sections `speeds` (BT, HPS, PL on both data sets' lengths), `rows` (their ratios) and `throughput`."""
    found: dict[str, Any] = {"throughput": rates(setting), "speeds": [], "rows": []}
    for dataset in inputs.FILES:
        for section, entries in steps(setting, dataset).items():
            found[section] += entries
    return found


def rates(setting: RandomWeights) -> list[dict[str, Any]]:
    """Entries of the section `throughput`, which the plan reads."""
    return throughput.entries(
        setting.model,
        setting.causal(),
        setting.tokenizer(),
        train_tokens=setting.batch_tokens,
        score_tokens=4 * setting.batch_tokens,
        sequences=16 * setting.scale,
        repeats=setting.repeats,
        synchronize=setting.synchronize,
        bandwidth=setting.bandwidth,
        scale=setting.scale,
        many=setting.n,
    )


def trainers(setting: RandomWeights, dataset: str, model: torch.nn.Module) -> dict[str, Trainer]:
    """Trainings of BT, HPS and PL of `model`, on n responses a prompt; PL has an eighth of the prompts a step."""
    vocab, batch = setting.architecture.vocab, setting.batch
    pairs = inputs.synthetic(dataset, batch * 3, vocab)
    alike = ours.examples(alike_groups(pairs, setting.n, vocab))
    few = max(1, batch // 8)
    return {
        "bt": ours.trainer(model, "bt", alike, batch, setting.batch_tokens),
        "hps": ours.trainer(model, "hps", alike, batch, setting.batch_tokens),
        "pl": ours.trainer(model, "pl", ours.examples(pl_groups(pairs, few, setting.n)), few, setting.batch_tokens),
    }


def steps(setting: RandomWeights, dataset: str) -> dict[str, list[dict[str, Any]]]:
    """Sections `speeds` and `rows` of training steps on a data set's lengths."""
    repeats = setting.repeats
    cases = trainers(setting, dataset, setting.policy())
    measured = {loss: Measured(trainer, setting.architecture, setting.device) for loss, trainer in cases.items()}
    timed = setting.interleaved(dict(measured))
    facts = setting.facts(f"random tokens, lengths as in {dataset}")
    speeds = []
    for loss, case in measured.items():
        flops = [work / spent for work, spent in zip(case.flops[-repeats:], timed[loss], strict=True)]
        tokens = [count / spent for count, spent in zip(case.tokens[-repeats:], timed[loss], strict=True)]
        speeds.append(
            {
                "name": f"{loss}_{dataset}",
                "what": f"{loss.upper()}{f', n = {setting.n}' if loss == 'pl' else ''}, lengths as in {dataset}",
                "seconds": Summary.of(timed[loss]).as_dict(),
                "tokens_per_second": Summary.of(tokens).median,
                "peak_memory": case.peak,
                "flops_per_second": Summary.of(flops).median,
                "share_of_peak": Summary.of(flops).median / setting.peak_flops if setting.peak_flops else None,
                "batch": cases[loss].schedule.batch_size,
                **facts,
            }
        )
    ratios = [
        Row(
            f"hps_over_bt_{dataset}",
            f"seconds a step, HPS / BT, lengths as in {dataset}",
            measure.ratios(timed["hps"], timed["bt"]),
            1.02,
            at_least=False,
            facts=facts,
        )
    ]
    per_token = {
        loss: [spent / count for spent, count in zip(timed[loss], measured[loss].tokens[-repeats:], strict=True)]
        for loss in ("pl", "bt")
    }
    ratios.append(
        Row(
            f"pl_over_bt_token_time_{dataset}",
            f"seconds a distinct token, PL n = {setting.n} / BT, lengths as in {dataset}",
            measure.ratios(per_token["pl"], per_token["bt"]),
            facts=facts,
        )
    )
    if setting.device == "cuda":
        ratios.append(
            Row(
                f"pl_over_bt_memory_{dataset}",
                f"peak memory, PL n = {setting.n} / BT, lengths as in {dataset}",
                Summary.of([measured["pl"].peak / measured["bt"].peak]),
                1.25,
                at_least=False,
                facts=facts,
            )
        )
    return {"speeds": speeds, "rows": [row.as_dict() for row in ratios]}


def memory_from_here(device: str) -> None:
    """From here on `peak_memory` counts, on a GPU."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def peak_memory(device: str) -> int:
    """Bytes: of a GPU the most that were allocated; on a CPU the process's largest resident set so far."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else measure.largest_resident_set()


class Measured(ours.Steps):
    """Steps that also note their operations and the largest memory that any of them held."""

    def __init__(self, trainer: Trainer, architecture: Architecture, device: str):
        super().__init__(trainer)
        self.architecture = architecture
        self.device = device
        self.peak = 0
        self.flops: list[float] = []

    def __call__(self, repeat: int) -> None:
        memory_from_here(self.device)
        batch = self.trainer.batches[self.next_step()]
        super().__call__(repeat)
        self.flops.append(sum(self.of_group(self.trainer.prepare(item).group) for item in batch))
        self.peak = max(self.peak, peak_memory(self.device))

    def of_group(self, group: Group) -> float:
        """Operations of training on a group; one that exceeds the token budget takes a forward pass more."""
        scorer = self.trainer.scorer
        work = shared_work(len(group.prompt), map(len, group.responses))
        return self.architecture.training_flops(work, forwards=1 + (scorer.group_cost([group]) > scorer.batch_tokens))


def pl_groups(pairs: list[inputs.Pair], batch: int, n: int) -> list[Group]:
    """Groups of n responses of the pairs' lengths, for prompts of middling length."""
    middle = sorted(pairs, key=lambda pair: len(pair.prompt))[len(pairs) // 2 :][: 2 * batch]
    return [Group(pair.prompt, inputs.candidates(pair, pairs, n)) for pair in middle]
