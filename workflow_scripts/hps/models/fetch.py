"""Models made elsewhere as model folders: from a GGUF file in an installed package, a folder, or the hub."""

from __future__ import annotations

import importlib.util
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from hps.errors import InputError
from hps.files import sha256
from hps.models import sources

PATTERNS = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
"""Files of a model folder that are taken: configuration, weights, tokenizer, template. Nothing pickled, no code."""

REWARD_ROLES = ("reward", "eval_reward")


def package_file(package: str, file: str) -> Path:
    """Path of a data file inside an installed package, which is not imported.

    Raises InputError when the package is not installed or does not carry the file.
    """
    if not package.isidentifier():
        raise InputError(package, "not the name of a top-level Python package")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(package, "this Python package is not installed (or is no package)")
    for folder in spec.submodule_search_locations:
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    raise InputError(package, f"the package carries no file {file}")


def from_gguf(out: Path, facts: dict[str, Any], package: str, file: str, dtype: str) -> None:
    """Write a GGUF file's causal model and tokenizer to folder `out`, dequantized to `dtype`.

    Raises InputError as `package_file` does, and for a file that is not GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    path = package_file(package, file)
    with open(path, "rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(path, "not a GGUF file")
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    with sources.quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=getattr(torch, dtype),
            local_files_only=True,
        )
    origin = {"package": package, "version": _version(package), "file": file, "sha256": sha256(path)}
    sources.save(out, model, tokenizer, facts | {"source": "gguf"} | origin)


def from_path(out: Path, facts: dict[str, Any], path: Path) -> None:
    """Make folder `out` of links to the files of the model folder `path`, with a model.json of its own.

    Raises InputError when `path` is not a model folder with safetensors, a tokenizer and a chat template.
    """
    path = path.resolve()
    _check(path, facts["role"])
    with sources.saving(out, facts | {"source": "path", "path": str(path)}) as folder:
        for file in sorted({file for pattern in PATTERNS for file in path.glob(pattern)} - {path / sources.FACTS}):
            (folder / file.name).symlink_to(file)


def from_hub(out: Path, facts: dict[str, Any], repo: str, revision: str = "") -> None:
    """Download a model repository's safetensors, configuration and tokenizer to folder `out`.

    The commit that `revision` (a branch, tag or commit; empty: the newest of the default branch) stands for is
    resolved first and recorded.

    Raises InputError when the hub cannot be reached, has no such repository or revision or does not show it to this
    user, and when what was downloaded is no model folder with safetensors, a tokenizer and a chat template.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

    name = f"{repo}@{revision}" if revision else repo
    try:
        found = HfApi().model_info(repo, revision=revision or None)
        if not any(sibling.rfilename.endswith(".safetensors") for sibling in found.siblings):
            raise InputError(name, "the repository holds no safetensors; pickled weights are refused")
        with sources.saving(out, facts | {"source": "hub", "repo": repo, "commit": found.sha}) as folder:
            snapshot_download(
                repo, revision=found.sha, allow_patterns=list(PATTERNS), ignore_patterns=["*/*"], local_dir=folder
            )
            shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's own notes on the download
            (folder / sources.FACTS).unlink(missing_ok=True)
            _check(folder, facts["role"])
    except (HTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(name, f"not to be had from the hub ({reason})") from error


def _check(folder: Path, role: str) -> None:
    """Raise InputError when `folder` holds no model that can serve `role`."""
    sources.tensor_shapes(folder)
    sources.load_tokenizer(folder)
    if role in REWARD_ROLES:
        sources.reward_head(folder)


def _version(package: str) -> str:
    """Version of the distribution that a package belongs to."""
    distributions = metadata.packages_distributions().get(package)
    return metadata.version(distributions[0]) if distributions else "unknown"
