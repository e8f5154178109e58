"""Measure training and scoring side by side with the alternative and with the limit; write benchmarks/results/.

    make bench                      on the CPU: all rows, at most 15 minutes on two cores
    make bench DEVICE=cuda          on a GPU: Llama-3-8B's architecture, at most 8 minutes on one H100
    python -m benchmarks.bench --only limit hps --repeats 5        (PYTHONPATH=workflow_scripts; parts, more repeats)

Real pairs come from the folder in HPS_DATA_DIR (as for `make real`); without it, random tokens of the same lengths.
Rows that are measured again replace what `<machine>.json` has of the same name; others stay.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks import report
from hps.evidence import render
from hps.support import cli
from hps.support.cli import argument
from hps.support.errors import InputError
from hps.support.files import read_json

CPU_PARTS = ("limit", "hps", "pl", "annotation", "trl_hh", "trl_pku", "growth", "throughput", "reading", "warm")
ON_REQUEST = ("run",)
"""Parts too long for the whole suite: two whole runs, cut down."""
UNKNOWN_SECONDS = 60.0
"""What a part is taken to need that this machine has not measured before."""


@dataclass
class Arguments:
    device: Literal["cpu", "cuda"] = argument("cpu: SmolLM2-135M beside TRL; cuda: Llama-3-8B's architecture", "cpu")
    only: list[str] = argument(
        f"CPU: parts to measure, also {', '.join(ON_REQUEST)}; none: all of {', '.join(CPU_PARTS)}", []
    )
    repeats: int = argument("repeats of each case, beside one warm-up", 3)
    threads: int = argument("CPU threads; 0: all cores", 0)
    suite: Literal["", "cpu", "gpu"] = argument("whose measurements; empty: by device. gpu runs on a CPU for tests", "")
    model: Literal["", "smollm2", "thumbnail"] = argument("empty: the suite's own; thumbnail is for tests", "")
    out: str = argument("folder of the results", "benchmarks/results")


def main(arguments: Arguments) -> None:
    import torch

    from benchmarks import machine

    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device", "cuda: torch sees no GPU")
    for part in arguments.only:
        if part not in CPU_PARTS + ON_REQUEST:
            raise InputError("--only", f"no part {part!r}; there are {', '.join(CPU_PARTS + ON_REQUEST)}")
    torch.set_num_threads(arguments.threads or os.cpu_count() or 1)
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    about = machine.describe(arguments.device)
    gpu = (arguments.suite or ("gpu" if arguments.device == "cuda" else "cpu")) == "gpu"
    started = time.perf_counter()
    path = Path(arguments.out) / f"{about['name']}.json"
    before = read_json(path)["machine"].get("seconds", {}) if path.is_file() else {}
    measured = gpu_suite(arguments, about) if gpu else cpu_suite(arguments, before)
    about |= {"seconds": measured.pop("seconds")} if "seconds" in measured else {}
    report.add(measured, about, Path(arguments.out))
    print(render.markdown(report.page(measured | {"machine": about})))
    print(f"{path}, in {(time.perf_counter() - started) / 60:.1f} minutes")


def cpu_suite(arguments: Arguments, seconds_before: dict[str, float]) -> dict[str, Any]:
    """The parts that were asked for, on SmolLM2-135M in bfloat16; `seconds_before`: what each took the last time."""
    import torch

    from benchmarks import growth, ours, reading, rows, warm_rows

    parts = arguments.only or CPU_PARTS
    found: dict[str, Any] = {"rows": []}
    name = arguments.model or "smollm2"
    with tempfile.TemporaryDirectory() as folder:
        setting = rows.FromFolder(
            folder=ours.model_folder(name, Path(folder) / "policy"),
            model={"smollm2": "SmolLM2-135M-Instruct"}.get(name, name),
            dtype=torch.bfloat16,
            device=arguments.device,
            repeats=arguments.repeats,
        )
        measurements: dict[str, Callable[[], list[rows.Row]]] = {
            "limit": lambda: rows.distance_to_limit(setting),
            "hps": lambda: rows.hps_over_bt(setting),
            "pl": lambda: rows.pl_over_bt(setting),
            "annotation": lambda: rows.annotation(setting),
            "trl_hh": lambda: trl_rows().against_trl(setting, "hh_rlhf"),
            "trl_pku": lambda: trl_rows().against_trl(setting, "pku_saferlhf"),
            "warm": lambda: warm_rows.start(setting),
            "run": lambda: warm_rows.whole_run(setting),
        }
        parts = [part for part in CPU_PARTS + ON_REQUEST if part in parts]
        for number, part in enumerate(parts):
            left = sum(seconds_before.get(one, UNKNOWN_SECONDS) for one in parts[number:]) / 60
            logging.info("%s, part %d of %d: about %.0f minutes left", part, number + 1, len(parts), left)
            began = time.perf_counter()
            if part == "growth":
                found["growth"] = growth.growth(setting)
            elif part == "reading":
                found["reading"] = reading.reading()
            elif part == "throughput":
                found |= cpu_throughput(setting)
            else:
                found["rows"] += [row.as_dict() for row in measurements[part]()]
            found.setdefault("seconds", {})[part] = round(time.perf_counter() - began, 1)
    return found


def trl_rows():
    """The comparison with TRL, imported where it is asked for: TRL need not be there otherwise."""
    from benchmarks import trl_rows

    return trl_rows


def cpu_throughput(setting) -> dict[str, Any]:
    """Rates on one thread, as each of the workflow's jobs has it, of the models of `tiny` and `smollm2`."""
    import torch

    from benchmarks import ours, throughput

    tokenizer = setting.tokenizer()
    common = {
        "repeats": max(1, setting.repeats - 2),
        "many": 30,
        "synchronize": setting.synchronize,
        "tokenizer": tokenizer,
    }
    with throughput.threads(1):
        tiny = ours.random_model(throughput.TINY, torch.float32, setting.device)
        tiny.config.eos_token_id = None
        found = throughput.entries(
            "tiny", tiny, train_tokens=4096, score_tokens=16384, sequences=512, scale=8, **common
        )
        found += throughput.entries(
            setting.model,
            setting.causal(),
            train_tokens=2048,
            score_tokens=4096,
            sequences=64,
            **common,
        )
        start_up = throughput.start_up(3) | {"responses": throughput.tokenizing(tokenizer)}
    return {"throughput": found, "start_up": start_up}


def gpu_suite(arguments: Arguments, about: dict[str, Any]) -> dict[str, Any]:
    """Training steps and rates of Llama-3-8B's architecture at random weights."""
    from benchmarks.gpu import RandomWeights, suite

    if arguments.model == "thumbnail":
        return suite(RandomWeights.of_a_thumbnail(arguments.device, arguments.repeats))
    return suite(RandomWeights.of_llama(arguments.device, arguments.repeats, about))


if __name__ == "__main__":
    cli.run(main, Arguments)
