"""How fast a machine works: from benchmarks/results where measured, scaled from another GPU, or a stated assumption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hps.planning.operations import GPUS, Architecture, Gpu, Work, gpu_of
from hps.support.errors import InputError
from hps.support.files import read_json

ASSUMED_SHARE = {"train": 0.35, "train_group": 0.40, "score": 0.45, "annotate": 0.45}
"""Share of a GPU's bfloat16 peak where nothing was measured on any GPU."""
ASSUMED_BANDWIDTH = 0.2
"""Share of a GPU's memory bandwidth that sampling reaches where nothing was measured: transformers' `generate` spends
most of a step outside the GPU's kernels."""
ASSUMED_VLLM = 0.6
"""The same under vLLM, whose kernels and graphs leave little between steps."""
ASSUMED_CPU = 2e10
"""Operations a second of one CPU thread where nothing was measured."""
ASSUMED_START_UP = {"train": 8.0, "score": 8.0, "launcher": 4.0}
"""Seconds of a job that computes next to nothing; what accelerate's launcher adds."""
WARM_START_UP = 0.6
"""Seconds likewise of a job that is forked by a process which has imported everything (`compute.warm_jobs`)."""
ASSUMED_RESPONSES = 3000.0
"""Responses tokenized a second."""
FLOAT32_SHARE = {"gpu": 0.25, "cpu": 0.45}
"""What a device with bfloat16 instructions does in float32 of its rate in bfloat16, at most."""


@dataclass(frozen=True)
class Rates:
    """Rates of one kind of device.

    measured: entries of a benchmark file's section `throughput`, times `scale` this device's. Empty: the assumed
    shares of `gpu`, or ASSUMED_CPU.
    """

    device: str
    gpu: Gpu | None
    measured: Sequence[dict[str, Any]] = ()
    scale: float = 1.0
    start_up: dict[str, float] = field(default_factory=lambda: dict(ASSUMED_START_UP))
    responses: float = ASSUMED_RESPONSES
    assumptions: list[str] = field(default_factory=list)

    @property
    def is_cpu(self) -> bool:
        return self.gpu is None

    def flops(self, work: str, architecture: Architecture, dtype: str) -> float:
        """Operations a second of one device (a CPU: one thread) at this work, by the nearest model measured."""
        found = self._nearest(work, architecture)
        if found is not None:
            return found["flops_per_second"] * self.scale * self._share(found["dtype"], dtype)
        return self.gpu.flops * ASSUMED_SHARE[work] * self._share("bfloat16", dtype) if self.gpu else ASSUMED_CPU

    def generating(
        self,
        model: Architecture,
        dtype: str,
        work: Work,
        sequences: int,
        steps: float,
        context: float,
        vllm: bool = False,
    ) -> float:
        """Seconds of sampling `work` in `steps` steps of `sequences` sequences with `context` tokens each on average.

        On a GPU a step reads all weights and the cache once: that time over the share of the bandwidth reached, which
        for vLLM is not measured here but always ASSUMED_VLLM.
        """
        found = self._nearest("generate", model)
        if self.gpu is None:
            return model.forward_flops(work) / self.flops("generate", model, dtype)
        size = 4 if dtype == "float32" else 2
        moved = model.parameters * size + sequences * context * model.cache_bytes(size)
        share = found["share_of_bandwidth"] if found and found.get("share_of_bandwidth") else ASSUMED_BANDWIDTH
        share = ASSUMED_VLLM if vllm else share
        computing = model.forward_flops(work) / self.flops("score", model, dtype)
        return max(steps * moved / (self.gpu.bandwidth * share), computing)

    def _share(self, measured: str, dtype: str) -> float:
        """Of the rate measured in one type, what is left in another."""
        slower = (measured, dtype) == ("bfloat16", "float32")
        return FLOAT32_SHARE["cpu" if self.is_cpu else "gpu"] if slower else 1.0

    def _nearest(self, work: str, architecture: Architecture) -> dict[str, Any] | None:
        entries = [entry for entry in self.measured if entry["work"] == work]
        return min(
            entries, key=lambda entry: abs(math.log(entry["parameters"] / architecture.parameters)), default=None
        )


def load(folder: Path, device: str) -> Rates:
    """Rates of `device` (`cpu`, or a GPU that hps.planning.operations knows) from the benchmark files in `folder`.

    For a GPU that has no file, those of another one, scaled by the peaks; without any, assumed shares of the peak. A
    CPU takes the newest file of a CPU: which one is said, since CPUs are not scaled to each other.

    Raises InputError for a device that is not known.
    """
    files = [read_json(path) for path in sorted(folder.glob("*.json"))]
    files = [file for file in files if file.get("throughput")]
    cpus = [file for file in files if file["machine"]["device"] == "cpu"]
    start_up: dict[str, Any] = {}
    if cpus:
        newest = max(cpus, key=lambda file: file["machine"]["time"])
        own = newest.get("start_up", {})
        start_up = {
            "start_up": ASSUMED_START_UP | {job: own[job] for job in ASSUMED_START_UP if job in own},
            "responses": own.get("responses", ASSUMED_RESPONSES),
        }
    if device == "cpu":
        if not cpus:
            said = f"assumed: no benchmark of a CPU, so {ASSUMED_CPU:.0e} operations a second and thread"
            return Rates(device, None, assumptions=[said])
        said = f"rates measured on {newest['machine']['name']} with 1 thread ({newest['machine']['code']})"
        return Rates(device, None, newest["throughput"], assumptions=[said], **start_up)
    name = gpu_of(device)
    if name is None:
        raise InputError("plan.device", f"{device!r} is unknown; known are cpu, {', '.join(GPUS)}")
    gpu = GPUS[name]
    measured = {gpu_of(file["machine"].get("gpu", "")): file for file in files if file["machine"]["device"] == "cuda"}
    measured.pop(None, None)
    if name in measured:
        said = f"rates measured on {measured[name]['machine']['gpu']} ({measured[name]['machine']['code']})"
        return Rates(device, gpu, measured[name]["throughput"], assumptions=[said], **start_up)
    if measured:
        other = min(measured, key=lambda key: abs(math.log(GPUS[key].flops / gpu.flops)))
        scale = gpu.flops / GPUS[other].flops
        said = f"rates measured on {measured[other]['machine']['gpu']}, scaled to {name} by peak FLOP/s (x {scale:.2f})"
        return Rates(device, gpu, measured[other]["throughput"], scale, assumptions=[said], **start_up)
    shares = ", ".join(f"{work} {share:.0%}" for work, share in ASSUMED_SHARE.items())
    said = (
        f"assumed: nothing was measured on a GPU; of {name}'s bfloat16 peak ({gpu.flops / 1e12:.0f} TFLOP/s) {shares}; "
        f"sampling reaches {ASSUMED_BANDWIDTH:.0%} of its memory bandwidth ({ASSUMED_VLLM:.0%} under vLLM)"
    )
    return Rates(device, gpu, assumptions=[said], **start_up)
