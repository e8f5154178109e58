"""Models made elsewhere as model folders: from a GGUF file in an installed package, a folder, or the hub."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from hps.models import entry, hub, sources
from hps.models.hub_lock import MODEL_FILES, Wanted, model_files
from hps.support.errors import InputError
from hps.support.files import sha256


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

    Raises InputError as `package_file` and `entry.check` do, and for a file that is not GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    path = package_file(package, file)
    with open(path, "rb") as stream:
        if stream.read(4) != b"GGUF":
            raise InputError(path, "not a GGUF file")
    with sources.refusals(path, "the model and its tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
        model, found = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=getattr(torch, dtype),
            local_files_only=True,
            output_loading_info=True,
        )
    sources.check_tensors(path, found)
    origin = {"package": package, "version": _version(package), "file": file, "sha256": sha256(path)}
    with _entering(out, facts | {"source": "gguf"} | origin, path) as folder:
        sources.write(folder, model, tokenizer)


def from_path(out: Path, facts: dict[str, Any], path: Path) -> None:
    """Make folder `out` of links to the files of the model folder `path`, with a model.json of its own.

    Raises InputError as `entry.check` does, naming `path`.
    """
    if not path.is_dir():
        raise InputError(path, "there is no such model folder")
    path = path.resolve()
    with _entering(out, facts | {"source": "path", "path": str(path)}, path) as folder:
        for file in sorted({file for pattern in MODEL_FILES for file in path.glob(pattern)} - {path / sources.FACTS}):
            (folder / file.name).symlink_to(file)
        if not any(folder.glob("*.safetensors")):
            sources.weight_files(path)  # which says whether there are pickled ones


def from_hub(
    out: Path,
    facts: dict[str, Any],
    repo: str,
    revision: str = "",
    lock: str = "",
    below: str = "",
    policy: Path | None = None,
) -> None:
    """Download a model repository's safetensors, configuration and tokenizer to folder `out`.

    Of a policy that others trained, `below` is the folder of the repository that it lies in, and `policy` the folder of
    the model that it is compared with: an adapter must be on that, and a model have its vocabulary.

    The commit is the one that the lock file `lock` pins; where it pins none, the one that `revision` (a branch, tag or
    commit; empty: the newest of the default branch) stands for now. It is recorded, and every file verified.

    Raises InputError as `hub.snapshot`, `hub.downloaded` and `entry.check` (`entry.check_published`) do, and when the
    repository has no safetensors.
    """
    snapshot = hub.snapshot(Wanted("model", repo, revision, model_files(below)), lock)
    if not any(name.endswith(".safetensors") for name in snapshot.files):
        where = f"folder {below}" if below else "the repository"
        said_by = f" by {lock}, which `snakemake pin` renews" if snapshot.listed_by == lock else ""
        raise InputError(repo, f"{where} holds no safetensors{said_by}; pickled weights are refused")
    origin = {
        "source": "hub",
        "repo": repo,
        **({"folder": below} if below else {}),
        "commit": snapshot.commit,
        "pinned": snapshot.listed_by == lock,
    }
    with hub.downloaded(snapshot, out) as folder, _entering(out, facts | origin, repo, policy) as partial:
        for file in map(Path, snapshot.files):
            if file.name != sources.FACTS:
                os.replace(folder / file, partial / file.name)


@contextmanager
def _entering(out: Path, facts: dict[str, Any], where: object, policy: Path | None = None) -> Iterator[Path]:
    """As `sources.saving`, with the check of what the block put into the folder; its errors name `where`."""
    with sources.saving(out, facts) as folder:
        yield folder
        try:
            facts["check"] = entry.check_published(folder, policy) if policy else entry.check(folder, facts["role"])
        except InputError as error:  # the folder goes, so its path would say nothing
            named, _, what = str(error).replace(str(folder), str(where)).partition(": ")
            raise InputError(named, what) from error


def _version(package: str) -> str:
    """Version of the distribution that a package belongs to."""
    distributions = metadata.packages_distributions().get(package)
    return metadata.version(distributions[0]) if distributions else "unknown"
