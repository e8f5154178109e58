"""What each result records about how it was made: code, packages, machine, settings and inputs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from hps.support.errors import InputError
from hps.support.files import sha256

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "accelerate",
    "vllm",
    "huggingface-hub",
    "sacrebleu",
    "numpy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "openai",
    "snakemake",
)
SMALL = 10 * 2**20
"""Bytes up to which a file inside a folder is hashed."""


def collect(settings: Mapping[str, Any], inputs: Sequence[str | Path]) -> dict[str, Any]:
    """A JSON-ready record for a result made with `settings` from `inputs`.

    Keys: `code` (see `code_version`), `time` (UTC), `python`, `packages` (of `PACKAGES`, those installed),
    `platform`, `threads`, `settings`, and `inputs` (path to hash, see `fingerprint`). No package is imported for it.

    Raises InputError for an input that does not exist.
    """
    return {
        "code": code_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "threads": threads(),
        "settings": json.loads(json.dumps(dict(settings), default=str)),
        "inputs": {str(path): fingerprint(path) for path in inputs},
    }


def code_version(folder: str | Path | None = None) -> str:
    """`git describe --always --dirty` of this package's checkout; "unknown" where it is not one, or git is missing."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=folder or Path(__file__).parent,
            # `--dirty` would otherwise refresh the index, and jobs side by side would meet at its lock.
            env=os.environ | {"GIT_OPTIONAL_LOCKS": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        return "unknown"
    return described.stdout.strip()


def package_versions() -> dict[str, str]:
    """Versions of the installed packages among `PACKAGES`, from their metadata."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def threads() -> dict[str, int | None]:
    """CPUs of the machine, OMP_NUM_THREADS, and the threads torch computes with (None where not set or not loaded)."""
    torch = sys.modules.get("torch")
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "cpus": os.cpu_count(),
        "omp_num_threads": int(asked) if asked.isdigit() else None,
        "torch": torch.get_num_threads() if torch else None,
    }


def fingerprint(path: str | Path) -> str | dict[str, str]:
    """SHA-256 of a file.

    Of a folder: that of its model.json where it has one (which records where the model comes from), else of each file
    in it by name, with the size in place of the hash for files above `SMALL` bytes.
    """
    path = Path(path)
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise InputError(path, "no such file or folder")
    if (path / "model.json").is_file():
        return {"model.json": sha256(path / "model.json")}
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return {
        file.relative_to(path).as_posix(): sha256(file)
        if file.stat().st_size <= SMALL
        else f"{file.stat().st_size} bytes"
        for file in found
    }
