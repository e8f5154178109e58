"""The Hugging Face hub: what a repository holds, and its files, verified, or one line that says why not.

Models and data sets come the same way: resolve the commit (or take the pinned one), check the disk, download, compare
size and hash of every file with what the lock file or the hub says. What a run publishes goes there as one commit.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hps.models import hub_lock
from hps.models.hub_lock import File, Snapshot, Wanted
from hps.support import secrets
from hps.support.errors import InputError
from hps.support.files import sha256
from hps.support.offline import FETCH

SECONDS = 30
"""After which an unanswered first request counts as no network."""


def snapshot(wanted: Wanted, lock: str = "") -> Snapshot:
    """The files that are wanted, at the commit that the lock file `lock` pins, or else as the hub has it now.

    Raises InputError as `listing` and `hub_lock.pinned` do, and for a pattern without wildcards that no file matches.
    """
    pinned = hub_lock.pinned(hub_lock.read(lock), wanted) if lock else None
    if pinned:
        logging.info("%s: commit %s, pinned by %s", wanted.repo, pinned.commit, lock)
        return pinned
    found = listing(wanted)
    logging.warning("%s: not pinned; taking and recording commit %s", wanted.repo, found.commit)
    return found


def listing(wanted: Wanted, also: Iterable[str] = ()) -> Snapshot:
    """Ask the hub which commit `wanted.revision` is, and for the files there that match, or that `also` names.

    Raises InputError, one line each: no network, no such repository or revision, a refused token, and for data sets a
    pattern that no file matches.
    """
    files = {}
    try:
        with _one_line(wanted.repo, wanted.kind, wanted.revision):
            from huggingface_hub import HfApi

            info = HfApi().repo_info(
                wanted.repo,
                repo_type=wanted.kind,
                revision=wanted.revision or None,
                files_metadata=True,
                timeout=SECONDS,
            )
        for sibling in info.siblings:
            lfs = sibling.lfs
            files[sibling.rfilename] = (
                File(lfs.size, sha256=lfs.sha256) if lfs else File(sibling.size, blob=sibling.blob_id)
            )
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise InputError(wanted.repo, f"the hub's answer cannot be read ({error!r})") from error
    found = Snapshot(wanted.kind, wanted.repo, info.sha, wanted.revision, files)
    hub_lock.checked(found, "the hub's answer")
    for pattern in wanted.patterns if wanted.kind == "dataset" else ():
        if not hub_lock.matching(files, pattern):
            held = ", ".join(sorted(files)[:10]) or "nothing"
            raise InputError(wanted.repo, f"holds no {pattern} at commit {info.sha}; it holds {held}")
    return found.only([*wanted.patterns, *also])


@contextmanager
def downloaded(snapshot: Snapshot, out: str | Path) -> Iterator[Path]:
    """Yield a folder with the snapshot's files, each verified. It lies beside `out` and is gone after the block.

    Only a download that breaks off leaves it behind (`.<out>.download`), and the next one goes on from there: it
    takes the files that had arrived.

    Raises InputError, one line each: too little disk (before anything is downloaded), no access, no network, and a
    file whose size or hash is not the listed one.
    """
    out = Path(out)
    folder = out.with_name(f".{out.name}.download")
    _check_disk(snapshot, folder)
    logging.info("%s: %d files, %s", snapshot.repo, len(snapshot.files), _gigabytes(snapshot.size))
    try:
        with _one_line(snapshot.repo, snapshot.kind, snapshot.commit):
            from huggingface_hub import snapshot_download

            snapshot_download(
                snapshot.repo,
                repo_type=snapshot.kind,
                revision=snapshot.commit,
                allow_patterns=list(snapshot.files),
                local_dir=folder,
            )
    except InputError:
        if not any((folder / name).is_file() for name in snapshot.files):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    try:
        verify(snapshot, folder)
        yield folder
    finally:
        shutil.rmtree(folder)


def publish(folder: str | Path, repo: str, *, private: bool, message: str) -> str:
    """Send the files below `folder` to a model repository as one commit, so that they arrive whole or not at all.

    A repository that is not there is made, `private` or not. Files that it has and the folder has not stay in it;
    hidden ones are not sent.

    Returns the address of the commit. Raises InputError, one line each: no token or a refused one, no access, no
    network, a card that the hub finds fault with.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.utils import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()  # an error would stand in the middle of one
    folder = Path(folder)
    if not get_token():
        raise InputError(repo, "the hub takes files from an account alone: set HF_TOKEN to a token that may write")
    with _one_line(repo, "model", "", sending=True):
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        logging.info("%s: sending %d files, %s", repo, len(files), _gigabytes(sum(p.stat().st_size for p in files)))
        additions = [CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files]
        HfApi().create_repo(repo, private=private, exist_ok=True)
        # Not upload_folder, which cuts a large folder into several commits.
        return HfApi().create_commit(repo, additions, commit_message=message).commit_url


def verify(snapshot: Snapshot, folder: Path) -> None:
    """Raise InputError, naming repository and file, when a file is not what `snapshot` says."""
    for name, file in snapshot.files.items():
        where, path = f"{snapshot.repo}: {name}", folder / name
        if not path.is_file():
            raise InputError(where, f"is not in the repository at commit {snapshot.commit}")
        size = path.stat().st_size
        if size != file.size:
            raise InputError(where, f"has {size} bytes where {snapshot.listed_by} says {file.size}; nothing is kept")
        kind, expected = ("SHA-256", file.sha256) if file.sha256 else ("git blob id", file.blob)
        found = sha256(path) if file.sha256 else blob_id(path)
        if found != expected:
            raise InputError(where, f"has {kind} {found} where {snapshot.listed_by} says {expected}; nothing is kept")


def blob_id(path: str | Path) -> str:
    """Git's id of a file's content, which is how the hub identifies files that are not in LFS."""
    content = Path(path).read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _check_disk(snapshot: Snapshot, folder: Path) -> None:
    """Raise InputError when the files that `folder` lacks do not fit on its disk."""
    needed = 0
    for name, file in snapshot.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != file.size:
            needed += file.size
    disk = next(parent for parent in folder.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(disk).free
    if needed > free:
        raise InputError(
            snapshot.repo, f"needs {_gigabytes(needed)} on the disk of {disk}, where {_gigabytes(free)} is free"
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


@contextmanager
def _one_line(repo: str, kind: str, revision: str, *, sending: bool = False) -> Iterator[None]:
    """Turn the client's errors into InputError."""
    from httpx2 import HTTPError
    from huggingface_hub import get_token
    from huggingface_hub.errors import XetDownloadError

    # It would log a line a request, with addresses that are signed for whoever has them.
    logging.getLogger("httpx2").setLevel(logging.WARNING)
    if token := get_token():
        secrets.read("HF_TOKEN, or what `hf auth login` stored", token)
    try:
        yield
    # ValueError: a name or an answer that is none. RuntimeError: a file that could not be sent.
    except (HTTPError, OSError, ValueError, RuntimeError, XetDownloadError) as error:
        raise InputError(repo, _reason(error, repo, kind, revision, sending)) from error


def _reason(error: BaseException, repo: str, kind: str, revision: str, sending: bool) -> str:
    """What went wrong and what to do about it, on one line."""
    from httpx2 import HTTPError
    from huggingface_hub import constants, errors, get_token

    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__:
        error = error.__cause__  # the client looked on the disk because of this
    if isinstance(error, RuntimeError) and error.__cause__:
        error = error.__cause__
    again = "publish again" if sending else f"{FETCH} downloads all that is missing"
    access = "write" if sending else "read"
    first = next(iter(str(error).strip().splitlines()), "") or type(error).__name__
    page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{repo}"
    status = error.response.status_code if isinstance(error, errors.HfHubHTTPError) else 0
    message = error.response.headers.get("X-Error-Message", "") if status else ""
    match error:
        case errors.GatedRepoError():
            return f"a gated repository: accept the licence at {page}, then set HF_TOKEN to a token of that account"
        case errors.RevisionNotFoundError():
            return f"the repository has no revision {revision}"
        case errors.RemoteEntryNotFoundError():
            return f"a file that the hub lists is not there ({error.response.url})"
        case errors.HfHubHTTPError() if status == 401 and "Invalid credentials" in message:
            return "the hub refuses the token (401): set HF_TOKEN to a valid one, or renew it with `hf auth login`"
        case errors.DisabledRepoError():
            return "the hub has disabled this repository"
        case errors.RepositoryNotFoundError() | errors.HfHubHTTPError() if status in (401, 404):
            if get_token():
                return f"no such {kind} repository, or a private one that the account of this token may not see"
            return (
                f"no such {kind} repository, or a private one: without a token (HF_TOKEN) the hub does not tell which"
            )
        case errors.HfHubHTTPError() if status == 403:
            return f"the hub forbids it (403: {message or first}); does the token have {access} access to {page}?"
        case errors.HfHubHTTPError():
            return f"the hub answers {status} ({message or first}); try again later"
        case errors.OfflineModeIsEnabled():
            return f"HF_HUB_OFFLINE is set; unset it where there is network, and {again}"
        case HTTPError():
            return f"no network: {constants.ENDPOINT} cannot be reached ({first}); where there is network, {again}"
        case OSError() if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return f"the disk is full, or the quota used up, at {error.filename or os.getcwd()} ({error.strerror})"
    if sending:  # also what is wrong with a model card, in several lines
        return f"not taken by the hub ({' '.join(str(error).split())})"
    return f"not to be had from the hub ({first})"
