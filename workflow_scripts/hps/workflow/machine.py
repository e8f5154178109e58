"""What the machine that runs Snakemake can do."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}
"""Flags, as Linux names them, of processors of Intel, AMD and Arm that multiply matrices in bfloat16."""


def has_gpu() -> bool:
    """Whether Linux shows a GPU of NVIDIA or AMD."""
    return any([*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")])


def emulates_bfloat16() -> bool:
    """Whether neither a GPU nor the processor multiplies in bfloat16. Other systems than Linux do not say."""
    return CPUINFO.is_file() and not has_gpu() and not BFLOAT16 & {*CPUINFO.read_text().split()}
