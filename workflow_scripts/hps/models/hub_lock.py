"""config/hub.lock.yaml: which commit of each repository of the hub a run takes, and size and hash of each of its files.

`snakemake pin` writes it from what the hub says; nothing in it is made up, and what it does not name is not pinned.
This module reads and writes the file and compares it with the configuration; `hps.models.hub` talks to the hub. No
network and no client are needed here, so the Snakefile can use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hps.support.errors import InputError
from hps.support.files import write_text
from hps.support.yaml_file import read_yaml

if TYPE_CHECKING:
    from hps.workflow.config import Config

LOCK = "config/hub.lock.yaml"
KINDS = ("model", "dataset")
MODEL_FILES = ("*.json", "*.safetensors", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
"""Files of a model repository that are taken: configuration, weights, tokenizer, template. Nothing pickled, no code."""


def model_files(folder: str) -> tuple[str, ...]:
    """The same in a folder of the repository; empty: its first."""
    return tuple(f"{folder}/{pattern}" if folder else pattern for pattern in MODEL_FILES)


_HEADER = (
    "# Written by `snakemake pin`: what the hub said of each repository. A run takes exactly this and verifies it.\n"
)


@dataclass(frozen=True)
class Wanted:
    """What a configuration asks of one repository."""

    kind: str
    """model or dataset."""
    repo: str
    """owner/name."""
    revision: str
    """A branch, tag or commit; empty: the newest commit."""
    patterns: tuple[str, ...]
    """Files: paths in the repository, where `*` stands for any characters but a slash."""
    key: str = ""
    """Layer and key of the configuration that name the revision, for messages."""


@dataclass(frozen=True)
class File:
    """Size in bytes and hash of a file as the hub lists them: SHA-256 for files in LFS, git's blob id for others."""

    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Files of a repository at one commit."""

    kind: str
    repo: str
    commit: str
    revision: str
    """What the commit was asked for as; empty: the newest."""
    files: Mapping[str, File]
    listed_by: str = "the hub"
    """Who says what the files are: the hub, or a lock file."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files.values())

    def only(self, patterns: Iterable[str]) -> Snapshot:
        """The files that match any of `patterns`, in the order of the patterns, then by name."""
        names = {name: None for pattern in patterns for name in matching(self.files, pattern)}
        return replace(self, files={name: self.files[name] for name in names})


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """The names that match, sorted; a `*` stays within its folder."""
    return sorted(name for name in names if name.count("/") == pattern.count("/") and fnmatchcase(name, pattern))


def wanted(config: Config, *, data: bool = True, judge: bool = True) -> list[Wanted]:
    """The repositories of a resolved configuration: of `models` and `published`, and if asked for `judge.hub`,
    `grid.datasets`.
    """

    def where(key: str) -> str:
        return f"{config.where(key)}: {key}"

    found = [
        Wanted("model", source["repo"], source["revision"], MODEL_FILES, where(f"models.{role}.revision"))
        for role, source in config["models"].items()
        if source.get("source") == "hub"
    ]
    for one in config["published"]:
        key = where(f"published.{one['name']}.revision")
        found.append(Wanted("model", one["repo"], one.get("revision", ""), model_files(one.get("folder", "")), key))
    if judge and (hub := config["judge"]["hub"]):
        found.append(Wanted("model", hub["repo"], hub["revision"], MODEL_FILES, where("judge.hub.revision")))
    for name in config["grid"]["datasets"] if data else ():
        source = config["data"][name]
        if "hub" in source:
            patterns = tuple(source["hub_files"]["train"] + source["hub_files"]["test"])
            revision = source.get("hub_revision", "")
            found.append(Wanted("dataset", source["hub"], revision, patterns, where(f"data.{name}.hub_revision")))
    return found


def merged(asked: Iterable[Wanted]) -> list[Wanted]:
    """One entry a repository, with the patterns of all. Raises InputError when two want different revisions of it."""
    found: dict[tuple[str, str], Wanted] = {}
    for one in asked:
        other = found.get((one.kind, one.repo), one)
        if one.revision != other.revision:
            raise InputError(
                one.key, f"{one.revision!r}, but {other.key} is {other.revision!r}: {one.repo} has one pin"
            )
        found[one.kind, one.repo] = replace(one, patterns=tuple(dict.fromkeys(other.patterns + one.patterns)))
    return list(found.values())


Lock = dict[tuple[str, str], Snapshot]
"""Snapshots by (kind, repository)."""


def read(path: str | Path) -> Lock:
    """The entries of a lock file; none when there is no such file. Raises InputError when it is not one."""
    path = Path(path)
    if not path.is_file():
        return {}
    content = read_yaml(path)
    lock: Lock = {}
    try:
        for kind, repos in content.items():
            if kind not in KINDS:
                raise InputError(path, f"{kind!r} is none of {', '.join(KINDS)}")
            for repo, entry in repos.items():
                listed = {name: File(**file) for name, file in entry["files"].items()}
                found = Snapshot(kind, repo, entry["commit"], entry["revision"], listed, str(path))
                lock[kind, repo] = checked(found, path)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(path, f"not a lock file as `snakemake pin` writes it ({error})") from error
    return lock


def checked(snapshot: Snapshot, where: object) -> Snapshot:
    """The same, if all in it is what it should be: it comes from the hub or a file, and its names become paths.

    Raises InputError naming `where`, the repository and what is wrong.
    """

    def need(good: bool, what: str) -> None:
        if not good:
            raise InputError(where, f"{snapshot.repo}: {what}")

    need(isinstance(snapshot.repo, str), "not the name of a repository")
    need(is_commit(snapshot.commit), f"{snapshot.commit!r} is no commit")
    need(isinstance(snapshot.revision, str), f"revision is {snapshot.revision!r}, not text")
    for name, file in snapshot.files.items():
        inside = isinstance(name, str) and name.isprintable() and "\\" not in name
        inside = inside and not {"", ".", ".."} & set(name.split("/"))
        need(inside, f"{name!r} is no path of a file within a repository")
        need(type(file.size) is int and file.size >= 0, f"{name}: {file.size!r} is no size in bytes")
        need(_is_hex(file.sha256, 64) or _is_hex(file.blob, 40), f"{name}: has neither a SHA-256 nor a git blob id")
    return snapshot


def is_commit(value: Any) -> bool:
    """Whether a revision is a whole commit, and no branch or tag."""
    return _is_hex(value, 40)


def _is_hex(value: Any, digits: int) -> bool:
    return isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value) is not None


def write(path: str | Path, lock: Lock) -> None:
    """Write a lock file, whole, entries sorted."""
    content: dict[str, Any] = {}
    for (kind, repo), snapshot in sorted(lock.items()):
        content.setdefault(kind, {})[repo] = entry(snapshot)
    write_text(path, _HEADER + yaml.safe_dump(content, default_flow_style=None, width=1000, sort_keys=True))


def entry(snapshot: Snapshot) -> dict[str, Any]:
    """A snapshot as it stands in the file: commit, the revision that was asked for, files."""
    listed = {name: {k: v for k, v in asdict(file).items() if v != ""} for name, file in snapshot.files.items()}
    return {"commit": snapshot.commit, "revision": snapshot.revision, "files": listed}


def pinned(lock: Lock, asked: Wanted) -> Snapshot | None:
    """The lock's snapshot for what is wanted, its files only; None when the repository is not pinned.

    Raises InputError when the wanted revision is another one than the pinned, or the lock names no file for a pattern
    without wildcards.
    """
    snapshot = lock.get((asked.kind, asked.repo))
    if snapshot is None:
        return None
    as_commit = len(asked.revision) >= 7 and snapshot.commit.startswith(asked.revision)
    if asked.revision and not as_commit and asked.revision != snapshot.revision:
        raise InputError(
            asked.key or asked.repo,
            f"{asked.revision!r}, but {snapshot.listed_by} pins {asked.repo} at {snapshot.commit}; "
            "drop the one, or renew the other with `snakemake pin`",
        )
    for pattern in asked.patterns:
        if "*" not in pattern and asked.kind == "dataset" and not matching(snapshot.files, pattern):
            raise InputError(snapshot.listed_by, f"{asked.repo}: names no {pattern}; `snakemake pin` adds it")
    return snapshot.only(asked.patterns)
