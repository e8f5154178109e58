"""Warm jobs of a local run of Snakemake: starts the process that jobs are forked from, and leads their shells to it."""

from __future__ import annotations

import atexit
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from snakemake import benchmark
from snakemake.logging import logger
from snakemake.shell import shell

from hps.support import warm

SCRIPTS = Path(__file__).resolve().parents[2]


def possible(workflow) -> bool:
    """Whether a run's jobs can be warm: on this Linux machine, in this environment, and without a GPU.

    A process that has spoken to a GPU cannot fork, and jobs on GPUs are long.
    """
    gpus = [*Path("/dev").glob("nvidia[0-9]*"), *Path("/dev").glob("kfd")]
    local = workflow.local_exec and not workflow.deployment_settings.deployment_method
    return sys.platform == "linux" and local and not gpus


def use(scripts: Path = SCRIPTS, imports: Sequence[str] = warm.IMPORTS) -> None:
    """From now on, `python` in a shell line of this run asks a warm process for the commands in `scripts`."""
    try:
        folder, _ = start(scripts, imports)
    except OSError as error:
        logger.warning(f"Every job imports its libraries anew, since no warm process could be started: {error}")
        return
    shell.prefix(f"set -euo pipefail; PATH={shlex.quote(str(folder))}:$PATH; ")
    measure_workers(folder)


def start(scripts: Path, imports: Sequence[str]) -> tuple[Path, subprocess.Popen]:
    """Start the warm process for the commands in `scripts`; it ends with this process, however that ends.

    Returns:
        A private folder and the process. With the folder first in PATH, `python` asks the process.
    """
    python = shutil.which("python") or sys.executable
    folder = Path(tempfile.mkdtemp(prefix="hps-"))
    client = folder / "python"
    command = shlex.join([python, "-IS", str(SCRIPTS / "hps/support/warm_client.py"), str(folder)])
    client.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    client.chmod(0o700)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "socket"))
        listener.listen(64)
        code = "import sys; from hps.support import warm; warm.serve(int(sys.argv[1]), *sys.argv[2:])"
        process = subprocess.Popen(
            [python, "-c", code, str(listener.fileno()), str(folder), *imports],
            cwd=scripts,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
            process_group=0,  # the terminal's signals come to jobs through their clients
        )
    atexit.register(stop, folder, process)
    return folder, process


def stop(folder: Path, process: subprocess.Popen) -> None:
    """End a warm process, and with it the jobs that it may still have."""
    process.stdin.close()
    process.wait()
    warm.remove(folder)


def measure_workers(folder: Path) -> None:
    """Let Snakemake's benchmark files count a warm job's process, which is no descendant of the job's shell."""

    class Tree(psutil.Process):
        def children(self, recursive: bool = False) -> list[psutil.Process]:
            found = super().children(recursive=recursive)
            for process in [self, *found]:
                with suppress(OSError, ValueError, psutil.NoSuchProcess):
                    worker = psutil.Process(int((folder / f"{process.pid}.worker").read_text()))
                    found += [worker, *worker.children(recursive=True)]
            return found

    class Timer(benchmark.BenchmarkTimer):
        def __init__(self, pid: int, *arguments) -> None:
            super().__init__(pid, *arguments)
            self.main = Tree(pid)

        def cancel(self) -> None:
            """Snakemake looks twice a second; what it has missed of a short job, the kernel knows."""
            super().cancel()
            record = self.bench_record
            for pid in {self.pid, *self.procs}:
                with suppress(OSError):
                    memory, seconds = map(float, (folder / f"{pid}.used").read_text().split())
                    record.max_rss = max(record.max_rss or 0, memory / 1024)
                    record.cpu_time = max(record.cpu_time, seconds)
                    record.cpu_usage = max(record.cpu_usage, 100 * seconds)
                    record.data_collected = True

    benchmark.BenchmarkTimer = Timer
