"""Timing side by side, ratios, power laws, and the peak memory of one case in a process of its own."""

from __future__ import annotations

import json
import logging
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Summary:
    """Median and range of repeats."""

    median: float
    min: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Summary:
        return cls(statistics.median(values), min(values), max(values))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


def ratios(numerator: Sequence[float], denominator: Sequence[float]) -> Summary:
    """Summary of the ratios repeat by repeat: what slowed the machine in one repeat slowed both of its timings."""
    return Summary.of([a / b for a, b in zip(numerator, denominator, strict=True)])


def ratio_of_totals(numerator: Sequence[float], denominator: Sequence[float]) -> Summary:
    """The ratio over all repeats, for one so near 1 that every repeat is needed; with the range within a repeat."""
    each = ratios(numerator, denominator)
    return Summary(sum(numerator) / sum(denominator), each.min, each.max)


def interleaved(
    cases: dict[str, Callable[[int], float | None]],
    repeats: int,
    warmups: int = 1,
    synchronize: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each case in each repeat; all cases take turns, in changing order.

    A case is called with the number of the repeat (warm-ups: from -1 down, not in the result). Where it returns
    seconds, those count; otherwise the call is timed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(-warmups, repeats):
        names = list(cases)
        for name in names if repeat % 2 == 0 else reversed(names):
            synchronize()
            started = time.perf_counter()
            own = cases[name](repeat)
            synchronize()
            spent = time.perf_counter() - started if own is None else own
            logging.info(
                "  %s, %s: %.1f s", name, "warm-up" if repeat < 0 else f"repeat {repeat + 1} of {repeats}", spent
            )
            if repeat >= 0:
                seconds[name].append(spent)
    return seconds


def power_law(x: Sequence[float], y: Sequence[float]) -> tuple[float, float]:
    """(a, b) of the least-squares line log y = log a + b log x. Raises ValueError for fewer than two different x."""
    if len(set(x)) < 2:
        raise ValueError("a power law needs two different x at least")
    logs = [(math.log(u), math.log(v)) for u, v in zip(x, y, strict=True)]
    mean_x, mean_y = (statistics.fmean(values) for values in zip(*logs, strict=True))
    exponent = sum((u - mean_x) * (v - mean_y) for u, v in logs) / sum((u - mean_x) ** 2 for u, _ in logs)
    return math.exp(mean_y - exponent * mean_x), exponent


def largest_resident_set() -> int:
    """Of this process so far, in bytes (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_child(module: str, arguments: Sequence[str], threads: int) -> dict:
    """Run `python -m module` and read the JSON object in the last line of its output."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "workflow_scripts")])
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])
