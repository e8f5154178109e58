"""What the machine can do, as Linux says it."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

from hps.workflow import machine


@pytest.mark.parametrize(
    ("said", "gpu", "emulates"),
    [
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_bf16 sha_ni", False, False),
        ("flags\t\t: fpu sse2 avx2 amx_bf16", False, False),
        ("Features\t: fp asimd i8mm bf16", False, False),
        ("flags\t\t: fpu sse2 avx2 avx512f", False, True),
        ("flags\t\t: fpu sse2 avx2", True, False),
        (None, False, False),
    ],
)
def test_who_emulates_bfloat16(tmp_path, monkeypatch, said, gpu, emulates):
    cpuinfo = tmp_path / "cpuinfo"
    if said is not None:
        cpuinfo.write_text(said)
    monkeypatch.setattr(machine, "CPUINFO", cpuinfo)
    monkeypatch.setattr(machine, "has_gpu", lambda: gpu)
    assert machine.emulates_bfloat16() is emulates


def test_make_asks_for_the_same_instructions():
    (pattern,) = re.findall(r"-wEm1 '([^']+)' /proc/cpuinfo", Path(ROOT, "Makefile").read_text())
    assert {*pattern.split("|")} == machine.BFLOAT16
