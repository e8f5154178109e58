"""Values that were chosen without a GPU, each tried beside others on the same training steps."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AttentionInterface

from benchmarks import gpu, measure, ours
from benchmarks.gpu import RandomWeights
from benchmarks.measure import Summary
from benchmarks.rows import Row, seconds
from hps.logprobs import attention, packing

TRIED: dict[str, tuple[dict[str, int], tuple[int, ...]]] = {
    "hps.logprobs.attention.CALL_PAIRS": (attention.CALL_PAIRS, tuple(2**power for power in (14, 16, 18, 20, 22))),
    "hps.logprobs.packing.HEAD_LOGITS": (packing.HEAD_LOGITS, tuple(2**power for power in (23, 25, 27, 29))),
}
"""By its name, the dictionary that holds a value a device, and what is tried in its place."""
LOSSES = ("bt", "pl")
DATASET = "hh_rlhf"


def values(setting: RandomWeights) -> Iterator[list[dict[str, Any]]]:
    """Entries of the section `choices`, one list a value's name: seconds and memory of a step at each value tried."""
    trainers = gpu.trainers(setting, DATASET, setting.policy())
    for name, (held, tried) in TRIED.items():
        now = held[setting.device]
        entries = []
        for loss in LOSSES:
            trainer = trainers[loss]
            peaks = dict.fromkeys(tried, 0)

            def step(repeat: int, value: int, trainer=trainer, held=held, peaks=peaks) -> None:
                held[setting.device] = value
                gpu.memory_from_here(setting.device)
                trainer.step(1 + repeat % (len(trainer.batches) - 1))
                peaks[value] = max(peaks[value], gpu.peak_memory(setting.device))

            try:
                timed = setting.interleaved({str(one): functools.partial(step, value=one) for one in tried})
            finally:
                held[setting.device] = now
            entries += [
                {"name": name, "value": one, "loss": loss, "in_use": one == now}
                | {"seconds": Summary.of(timed[str(one)]).as_dict(), "peak_memory": peaks[one]}
                | setting.facts(f"random tokens, lengths as in {DATASET}", batch=trainer.schedule.batch_size)
                for one in tried
            ]
        yield entries


def compiled(setting: RandomWeights) -> Iterator[list[dict[str, Any]]]:
    """A row of plain training steps with BT against those whose decoder layers went through torch.compile.

    What follows each batch's layout, the calls of attention, is left out of what is compiled. PL is left out too: it
    goes part by part and keeps its prompts in a cache, by which every layer would be compiled for itself.
    """
    backend = "inductor" if setting.device == "cuda" else "eager"  # a CPU may have no compiler
    trainers = {name: gpu.trainers(setting, DATASET, setting.policy())["bt"] for name in ("plain", "compiled")}
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.attend))
    try:
        for layer in trainers["compiled"].scorer.decoder.layers:
            layer.forward = torch.compile(layer.forward, dynamic=True, backend=backend)
        began = time.perf_counter()
        for number in range(1, len(trainers["compiled"].batches)):
            trainers["compiled"].step(number)
        setting.synchronize()
        compiling = time.perf_counter() - began
        timed = setting.interleaved({name: ours.Steps(trainer) for name, trainer in trainers.items()})
    finally:
        AttentionInterface.register(attention.NAME, attention.attend)
    source = f"random tokens, lengths as in {DATASET}"
    facts = setting.facts(source, backend=backend, seconds_of_compiling=compiling, **seconds(timed))
    what = "seconds a step of BT, plain / torch.compile of the decoder layers"
    yield [Row("compile_bt", what, measure.ratios(timed["plain"], timed["compiled"]), facts=facts).as_dict()]
