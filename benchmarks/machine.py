"""The machine's name and its state: by processor and cores, never by host name."""

from __future__ import annotations

import logging
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from hps.planning.operations import GPUS, gpu_of
from hps.support import provenance
from hps.workflow.machine import emulates_bfloat16


def slug(name: str, cores: int | None = None) -> str:
    """A file name from a processor's name: `AMD EPYC 9654 96-Core Processor`, 2 -> `amd-epyc-9654-2-cores`."""
    name = re.sub(r"\(r\)|\(tm\)|@.*$|\b\d+-core\b|\bprocessor\b|\bcpu\b", " ", name.lower())
    parts = [re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "cpu"]
    if cores is not None:
        parts.append(f"{cores}-cores" if cores != 1 else "1-core")
    return "-".join(parts)


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo; its architecture where there is none."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def describe(device: str) -> dict[str, Any]:
    """What results record about the machine; `name` is also the results' file name."""
    import torch

    path = Path("/proc/cpuinfo")
    cpu = cpu_model(path.read_text(encoding="utf-8") if path.is_file() else "")
    # Processors of one name may differ in what decides speed here.
    kind = "-without-bfloat16" if emulates_bfloat16() else ""
    facts: dict[str, Any] = {
        "name": slug(cpu, os.cpu_count()) + kind,
        "device": device,
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average_at_start": round(os.getloadavg()[0], 2),
    }
    if device == "cuda":
        gpu = torch.cuda.get_device_name()
        known = gpu_of(gpu)
        facts |= {
            "name": slug(gpu),
            "gpu": gpu,
            "gpu_memory": torch.cuda.get_device_properties(0).total_memory,
            "peak_flops_bf16": GPUS[known].flops if known else None,
            "bandwidth": GPUS[known].bandwidth if known else None,
        }
    return facts


def packages() -> dict[str, str]:
    """Versions of the packages that the workflow records, and of TRL."""
    found = provenance.package_versions()
    try:
        found["trl"] = metadata.version("trl")
    except metadata.PackageNotFoundError:
        logging.debug("TRL is not installed")
    return found
