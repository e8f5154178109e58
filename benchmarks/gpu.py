"""Training steps of the Llama-3-8B architecture on a GPU: speed, peak memory, share of the GPU's bfloat16 peak.

The weights are random and made on the device, so nothing is downloaded; pairs are random tokens with lengths like those
of HH-RLHF and PKU-SafeRLHF. Any architecture and a CPU do too, which is how the code is tested without a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from benchmarks import inputs, measure, memory, ours, throughput
from benchmarks.measure import Summary
from benchmarks.rows import Row, alike_groups
from hps.logprobs.scorer import Group
from hps.models.scratch import build_tokenizer
from hps.planning.operations import Architecture, shared_work
from hps.training.trainer import Trainer

N = 100


def suite(
    architecture: Architecture,
    name: str,
    device: str,
    dtype: torch.dtype,
    peak_flops: float | None,
    bandwidth: float | None,
    repeats: int,
    *,
    batch: int = 16,
    batch_tokens: int = 8192,
    scale: int = 8,
) -> dict[str, Any]:
    """Sections `speeds` (BT, HPS, PL on both data sets' lengths), `rows` (their ratios) and `throughput`."""
    model = ours.random_model(architecture, dtype, device)
    synchronize: Callable[[], object] = torch.cuda.synchronize if device == "cuda" else lambda: None
    rates = throughput.entries(
        name,
        model,
        build_tokenizer(["what ends a response"], 320),
        train_tokens=batch_tokens,
        score_tokens=4 * batch_tokens,
        sequences=128,
        repeats=repeats,
        synchronize=synchronize,
        bandwidth=bandwidth,
        scale=scale,
    )
    model = ours.with_adapters(model)
    speeds, rows = [], []
    for dataset in inputs.FILES:
        pairs = inputs.synthetic(dataset, batch * 3, architecture.vocab)
        alike = alike_groups(pairs, N, architecture.vocab)
        few = max(1, batch // 8)
        cases = {
            "bt": ours.trainer(model, "bt", ours.examples(alike), batch, batch_tokens),
            "hps": ours.trainer(model, "hps", ours.examples(alike), batch, batch_tokens),
            "pl": ours.trainer(model, "pl", ours.examples(pl_groups(pairs, few)), few, batch_tokens),
        }
        steps = {loss: Measured(trainer, architecture, device) for loss, trainer in cases.items()}
        timed = measure.interleaved(dict(steps), repeats, synchronize=synchronize)
        facts = {
            "model": name,
            "dtype": str(dtype).removeprefix("torch."),
            "pairs": f"random tokens, lengths as in {dataset}",
            "repeats": repeats,
        }
        for loss, case in steps.items():
            flops = [work / spent for work, spent in zip(case.flops[-repeats:], timed[loss], strict=True)]
            tokens = [count / spent for count, spent in zip(case.tokens[-repeats:], timed[loss], strict=True)]
            speeds.append(
                {
                    "name": f"{loss}_{dataset}",
                    "what": f"{loss.upper()}{f', n = {N}' if loss == 'pl' else ''}, lengths as in {dataset}",
                    "seconds": Summary.of(timed[loss]).as_dict(),
                    "tokens_per_second": Summary.of(tokens).median,
                    "peak_memory": case.peak,
                    "flops_per_second": Summary.of(flops).median,
                    "share_of_peak": Summary.of(flops).median / peak_flops if peak_flops else None,
                    "batch": cases[loss].schedule.batch_size,
                    **facts,
                }
            )
        rows.append(
            Row(
                f"hps_over_bt_{dataset}",
                f"seconds a step, HPS / BT, lengths as in {dataset}",
                measure.ratios(timed["hps"], timed["bt"]),
                1.02,
                at_least=False,
                facts=facts,
            )
        )
        per_token = {
            loss: [spent / count for spent, count in zip(timed[loss], steps[loss].tokens[-repeats:], strict=True)]
            for loss in ("pl", "bt")
        }
        rows.append(
            Row(
                f"pl_over_bt_token_time_{dataset}",
                f"seconds a distinct token, PL n = {N} / BT, lengths as in {dataset}",
                measure.ratios(per_token["pl"], per_token["bt"]),
                facts=facts,
            )
        )
        if device == "cuda":
            rows.append(
                Row(
                    f"pl_over_bt_memory_{dataset}",
                    f"peak memory, PL n = {N} / BT, lengths as in {dataset}",
                    Summary.of([steps["pl"].peak / steps["bt"].peak]),
                    1.25,
                    at_least=False,
                    facts=facts,
                )
            )
    return {"rows": [row.as_dict() for row in rows], "speeds": speeds, "throughput": rates}


class Measured(ours.Steps):
    """Steps that also note their operations and the largest memory that any of them held."""

    def __init__(self, trainer: Trainer, architecture: Architecture, device: str):
        super().__init__(trainer)
        self.architecture = architecture
        self.device = device
        self.peak = 0
        self.flops: list[float] = []

    def __call__(self, repeat: int) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        batch = self.trainer.batches[self.next_step()]
        super().__call__(repeat)
        self.flops.append(sum(self.of_group(self.trainer.prepare(item).group) for item in batch))
        self.peak = max(self.peak, torch.cuda.max_memory_allocated() if self.device == "cuda" else memory.peak())

    def of_group(self, group: Group) -> float:
        """Operations of training on a group; one that exceeds the token budget takes a forward pass more."""
        scorer = self.trainer.scorer
        work = shared_work(len(group.prompt), map(len, group.responses))
        return self.architecture.training_flops(work, forwards=1 + (scorer.group_cost([group]) > scorer.batch_tokens))


def pl_groups(pairs: list[inputs.Pair], batch: int) -> list[Group]:
    """Groups of N responses of the pairs' lengths, for prompts of middling length."""
    middle = sorted(pairs, key=lambda pair: len(pair.prompt))[len(pairs) // 2 :][: 2 * batch]
    return [Group(pair.prompt, inputs.candidates(pair, pairs, N)) for pair in middle]
