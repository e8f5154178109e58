"""What only a GPU can tell, in at most nine minutes on one H100, without network: is it computed right, and how fast.

    make gpu-check                  or, without make: PYTHONPATH=.:workflow_scripts python3 -m benchmarks.gpu_check

Each part is a process of its own with a time limit, so that what hangs, crashes or runs out of memory takes no other
part with it. What a part has found so far is in `<machine>.json` and `.md` at once. docs/gpu-check.md says what the
parts are. Where there is no GPU the model is the size of a thumbnail: that tries the script, not the machine.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PARTS = {"correct": 70, "rates": 70, "steps": 80, "trl": 150, "scoring": 50, "choices": 150, "compile": 110}
"""The parts in their order, and the seconds that each may take. Those that an H200 has ended took about two thirds."""
MINUTES = 9.0
"""All of them together: what is left when the time is up is left out."""
LEAST = 10
"""Seconds that a part needs to begin at all."""
NEEDED = ("torch", "transformers", "peft", "accelerate", "numpy", "pyarrow", "yaml", "tqdm", "psutil")
"""What must be importable; TRL is used where it is there."""
REPEATS = 3
FAILED = 3
"""Exit code of a part that has said itself what went wrong."""


class Skipped(Exception):
    """Why a part has nothing to measure here."""


def main() -> None:
    logged()
    arguments = parsed()
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        sys.exit(f"error: not installed here: {', '.join(missing)}; docs/gpu-check.md says how to bring them")
    if arguments.part:
        alone(arguments.part, arguments.out)
        return
    os.environ |= {"HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    failed = []
    for part, seconds in PARTS.items():
        left = 60 * MINUTES * arguments.slower - (time.monotonic() - began)
        if not in_process(part, arguments.out, min(seconds * arguments.slower, left)):
            failed.append(part)
    logging.info("%.1f minutes", (time.monotonic() - began) / 60)
    sys.exit(f"error: {', '.join(failed)} failed (section `parts` of the results)" if failed else None)


def logged() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)


def parsed() -> argparse.Namespace:
    """The words, by the standard library alone: a GPU's machine may have nothing else for that."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="", help="folder; empty: benchmarks/results, without a GPU build/gpu-check")
    parser.add_argument("--part", choices=PARTS, help="one part alone, in this process and without a limit")
    parser.add_argument("--slower", type=float, default=1.0, help="multiplies the time limits: for slower machines")
    return parser.parse_args()


def in_process(part: str, out: str, seconds: float) -> bool:
    """Run a part within `seconds`; whether it found all that it was to find. What stopped it goes to the results."""
    logging.info("%s: at most %.0f s", part, seconds)
    if seconds < LEAST:
        record(out, part, 0.0, error="no time was left")
        return False
    # A process that has begun to use a GPU cannot be forked; where there is none, importing is done once for all parts.
    context = multiprocessing.get_context("spawn" if device() == "cuda" else "forkserver")
    context.set_forkserver_preload([f"benchmarks.{name}" for name in ("gpu_correct", "gpu_choices", "report")])
    began = time.monotonic()
    process = context.Process(target=alone, args=(part, out))
    process.start()
    process.join(seconds)
    late = process.is_alive()
    if late:
        process.kill()
        process.join()
    if process.exitcode not in (0, FAILED):
        why = f"was not done in {seconds:.0f} s" if late else f"ended with exit code {process.exitcode}"
        record(out, part, time.monotonic() - began, error=why)
    return process.exitcode == 0


def alone(part: str, out: str) -> None:
    """Run a part here and write what it finds as it finds it; ends with exit code FAILED where it failed."""
    logged()
    began = time.monotonic()
    said: dict[str, str] = {}
    try:
        for found in MEASUREMENTS[part](setting()):
            write(out, found)
    except Skipped as why:
        logging.info("%s: skipped: %s", part, why)
        said["skipped"] = str(why)
    except Exception as error:  # whatever it is, the parts after it go on
        traceback.print_exc()
        said["error"] = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    record(out, part, time.monotonic() - began, **said)
    if "error" in said:
        sys.exit(FAILED)


def device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def setting():
    from benchmarks import machine
    from benchmarks.gpu import RandomWeights

    if device() == "cpu":
        return RandomWeights.of_a_thumbnail("cpu", 1)
    return RandomWeights.of_llama("cuda", REPEATS, machine.describe("cuda"))


def write(out: str, found: dict[str, Any]) -> None:
    """Add sections to the results of this machine."""
    from benchmarks import machine, report

    default = "benchmarks/results" if device() == "cuda" else "build/gpu-check"
    report.add(found, machine.describe(device()), Path(out or default))


def record(out: str, part: str, seconds: float, error: str = "", skipped: str = "") -> None:
    """Write what became of a part."""
    write(out, {"parts": [{"name": part, "seconds": round(seconds, 1), "error": error, "skipped": skipped}]})


# --- the parts: each yields sections of the results -----------------------------------------------------------------


def correct(setting) -> Iterator[dict[str, Any]]:
    """Checks that raise or say what they found; all are made, and one that fails fails the part."""
    from benchmarks import gpu_correct

    wrong = []
    for name, check in gpu_correct.checks(setting).items():
        try:
            said, holds = check(), True
        except Exception as error:
            traceback.print_exc()
            said, holds = f"{type(error).__name__}: {error}", False
            wrong.append(name)
        logging.info("%s: %s (%s)", name, "yes" if holds else "NO", said)
        yield {"checks": [{"name": name, "holds": holds, "said": said}]}
    if wrong:
        raise gpu_correct.Wrong("; ".join(wrong))


def rates(setting) -> Iterator[dict[str, Any]]:
    from benchmarks import gpu

    yield {"throughput": gpu.rates(setting)}


def steps(setting) -> Iterator[dict[str, Any]]:
    from benchmarks import gpu, inputs

    for dataset in inputs.FILES:
        yield gpu.steps(setting, dataset)


def trl(setting) -> Iterator[dict[str, Any]]:
    """At HH-RLHF's lengths and the batches of the CPU's comparison, which TRL without checkpointing has memory for."""
    from dataclasses import replace

    if find_spec("trl") is None:
        raise Skipped("TRL is not installed")
    from benchmarks import trl_rows

    found = trl_rows.against_trl(replace(setting, batch=min(4, setting.batch)), "hh_rlhf")
    yield {"rows": [row.as_dict() for row in found]}


def scoring(setting) -> Iterator[dict[str, Any]]:
    from benchmarks import rows

    yield {"rows": [row.as_dict() for row in rows.annotation(setting, n=setting.n)]}


def choices(setting) -> Iterator[dict[str, Any]]:
    from benchmarks import gpu_choices

    for entries in gpu_choices.values(setting):
        yield {"choices": entries}


def compiling(setting) -> Iterator[dict[str, Any]]:
    from benchmarks import gpu_choices

    for entries in gpu_choices.compiled(setting):
        yield {"rows": entries}


MEASUREMENTS: dict[str, Callable[[Any], Iterator[dict[str, Any]]]] = {
    "correct": correct,
    "rates": rates,
    "steps": steps,
    "trl": trl,
    "scoring": scoring,
    "choices": choices,
    "compile": compiling,
}

if __name__ == "__main__":
    main()
