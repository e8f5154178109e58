"""Snakemake's locks, which outlive a Snakemake that was killed: they go where no run of this folder is alive."""

from __future__ import annotations

import fcntl
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snakemake.exceptions import LockException, WorkflowError
from snakemake.persistence import PersistenceBase

CLUSTER = "if no other run of this folder is alive: make slurm-cancel, snakemake --profile slurm --unlock, same command"
LOCAL = "if no other run of this folder is alive: snakemake --unlock, then the same command again"


def release_those_of_the_dead(workflow) -> None:
    """Before this run takes its locks, remove those of runs that were killed.

    Not on a cluster, where the jobs of a killed run may still be computing. Where a lock stays in the way, the error
    names the commands that help.
    """
    take = PersistenceBase.lock

    @contextmanager
    def lock(persistence: PersistenceBase) -> Iterator[None]:
        folder = Path(persistence.path)
        with (folder / "alive").open("a+") as file:
            enter(file, folder / "locks", workflow.local_exec)
            try:
                with take(persistence):
                    yield
            except LockException:
                raise WorkflowError(f"{folder / 'locks'}: {LOCAL if workflow.local_exec else CLUSTER}") from None

    PersistenceBase.lock = lock


def enter(file, locks: Path, local: bool) -> None:
    """Be known as alive while `file` is open: all runs share a lock on it, which ends with a process.

    Who can have it alone is the only run of this machine. The file names the machines, since not every file system lets
    one see what another has locked.
    """
    host = platform.node()
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.seek(0)
        if local and {*file.read().split()} <= {host}:
            for path in locks.glob("*.lock"):
                path.unlink()
        if not any(locks.glob("*.lock")):
            file.truncate(0)
    with suppress(OSError):  # a file system without such locks: Snakemake's own are all there is
        fcntl.flock(file, fcntl.LOCK_SH)
    print(host, file=file, flush=True)
