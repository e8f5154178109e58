"""Which Python the jobs of a run use: the one that runs Snakemake, and here one that has imported already."""

from __future__ import annotations

import atexit
import getpass
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
from snakemake import benchmark
from snakemake.logging import logger
from snakemake.shell import shell

from hps.support import warm as warm_process
from hps.support import warm_client

SCRIPTS = Path(__file__).resolve().parents[2]
STRICT = "set -euo pipefail; "
"""Snakemake's own prefix of a shell line, which one of ours replaces."""


def python_is(*command: str) -> None:
    """From now on, `python` in a shell line of this run is this command."""
    # Snakemake fills in what stands in braces.
    shell.prefix(f'{STRICT}python() {{{{ {shlex.join(command)} "$@"; }}}}; ')


def start_at_once(workflow) -> None:
    """Let a local run start jobs as soon as a core is free.

    Under its limit of 100 a second, Snakemake looks through all waiting jobs once a second for each job that it has
    started, which takes a fifth of a core after two hundred.
    """
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


def can_be_warm(workflow) -> bool:
    """Whether the jobs of a run can be warm: on this Linux machine and in this environment."""
    return sys.platform == "linux" and workflow.local_exec and not workflow.deployment_settings.deployment_method


def warm(scripts: Path = SCRIPTS, imports: Sequence[str] = warm_process.IMPORTS) -> None:
    """From now on, jobs of this run that are commands in `scripts` are forked from a process that has imported."""
    try:
        folder, _ = start(scripts, imports)
    except OSError as error:
        logger.warning(f"Every job imports its libraries anew, since no warm process could be started: {error}")
        return
    python_is(*client(folder))
    measure_workers(folder)


def client(folder: Path) -> list[str]:
    """The command that stands for `python` where the warm process of this folder does the work."""
    return [sys.executable, "-IS", str(SCRIPTS / "hps/support/warm_client.py"), str(folder)]


def start(scripts: Path, imports: Sequence[str]) -> tuple[Path, subprocess.Popen]:
    """Start a warm process for the commands in `scripts`; it ends with this process, however that ends.

    Returns:
        Its private folder, and the process.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"hps-{os.getpid()}-"))
    with ExitStack() as undone, socket.socket(socket.AF_UNIX) as listener:
        undone.callback(warm_process.remove, folder)
        warm_client.at_socket(folder, listener.bind)
        listener.listen(64)
        code = f"import sys; sys.path[0] = {str(SCRIPTS)!r}; from hps.support import warm; warm.serve(*sys.argv[1:])"
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(listener.fileno()), str(folder), *imports],
            cwd=scripts,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            process_group=0,  # the terminal's signals come to jobs through their clients
        )
        undone.pop_all()
    atexit.register(stop, folder, process)
    return folder, process


def remove_left_over() -> None:
    """Remove the folders of warm processes whose runs were killed, this user's only."""
    for left in Path(tempfile.gettempdir()).glob("hps-*-*"):
        if left.name.split("-")[1].isdigit() and left.owner() == getpass.getuser() and not in_use(left):
            warm_process.remove(left)


def in_use(folder: Path) -> bool:
    """Whether the process that has made a warm process's folder is alive; another may have its number by now."""
    maker = int(folder.name.split("-")[1])
    with suppress(psutil.NoSuchProcess, FileNotFoundError):
        return psutil.Process(maker).create_time() <= (folder / "socket").stat().st_mtime
    return psutil.pid_exists(maker)


def stop(folder: Path, process: subprocess.Popen) -> None:
    """End a warm process, and with it the jobs that it may still have."""
    process.stdin.close()
    process.wait()
    warm_process.remove(folder)


def measure_workers(folder: Path) -> None:
    """Let Snakemake's benchmark files count a warm job's process, which is no descendant of the job's shell."""

    def read(pid: int, kind: str) -> list[list[float]]:
        """The numbers in the warm process's files about what the process `pid` has called."""
        found = []
        for path in folder.glob(f"{pid}-*.{kind}"):
            with suppress(FileNotFoundError):
                found.append([float(word) for word in path.read_text().split()])
        return found

    class Tree(psutil.Process):
        def children(self, recursive: bool = False) -> list[psutil.Process]:
            found = super().children(recursive=recursive)
            for process in [self, *found]:
                for worker in read(process.pid, "worker"):
                    with suppress(psutil.NoSuchProcess, ValueError):
                        worker = psutil.Process(int(*worker))
                        found += [worker, *worker.children(recursive=True)]
            return found

    class Timer(benchmark.BenchmarkTimer):
        def __init__(self, pid: int, *arguments) -> None:
            super().__init__(pid, *arguments)
            self.main, self.due = Tree(pid), 0.0

        def work(self) -> None:
            """Look at the job, for at most a fiftieth of the time: adding up its pages twice a second slows it."""
            if (start := time.monotonic()) >= self.due:
                super().work()
                self.due = 50 * time.monotonic() - 49 * start

        def cancel(self) -> None:
            """Snakemake looks now and then; what it has missed of a warm job, the kernel knows."""
            super().cancel()
            record = self.bench_record
            for memory, seconds in read(self.pid, "used"):
                record.max_rss = max(record.max_rss or 0, memory / 1024)
                record.cpu_time = max(record.cpu_time, seconds)
                record.cpu_usage = max(record.cpu_usage, 100 * seconds)
                record.data_collected = True

    benchmark.BenchmarkTimer = Timer
