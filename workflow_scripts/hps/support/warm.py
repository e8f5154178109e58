"""A process that has imported what jobs import, and forks for each of them: a warm job computes at once.

`hps.workflow.jobs` starts it with a run of Snakemake, and it ends with that. `hps.support.warm_client` stands for
`python` in a job's shell line and hands over the job's command line, environment, working folder and streams. Nothing
is computed before the fork, so that a job gets neither threads nor random states, and no GPU is spoken to. Linux only.
"""

from __future__ import annotations

import atexit
import builtins
import ctypes
import gc
import importlib
import marshal
import os
import pkgutil
import selectors
import signal
import socket
import sys
import threading
import types
from contextlib import suppress
from importlib.machinery import SourceFileLoader
from pathlib import Path

IMPORTS = (
    *("pyarrow.parquet", "pyarrow.compute", "pyarrow.pandas_compat"),
    *("torch", "transformers.models.llama.modeling_llama", "peft", "accelerate"),
    *("matplotlib.backends.backend_svg", "hps"),
)
"""What jobs wait for when they start, also what libraries import at first use. `hps` stands for all its modules."""
SHELLS_OWN = ("_", "SHLVL", "PWD", "OLDPWD")
"""Variables that a shell sets for each command; no import depends on them."""
SECONDS_TO_HAND_OVER = 10
PR_SET_PDEATHSIG = 1  # of prctl(2): a signal to be sent when the parent ends


class Job:
    """What a client asks for: `python` with these arguments, in these surroundings."""

    def __init__(self, connection: socket.socket):
        """Receive it. A client that ends before it has sent everything asks for nothing."""
        self.streams: list[int] = []
        self.name, self.arguments, self.folder, self.environment, self.umask = "", (), "", {}, 0
        connection.settimeout(SECONDS_TO_HAND_OVER)
        with suppress(OSError, EOFError):
            size, self.streams, *_ = socket.recv_fds(connection, 8, 3)
            request = bytearray()
            while (missing := int.from_bytes(size, "big") - len(request)) > 0:
                if not (part := connection.recv(missing)):
                    raise EOFError
                request += part
            self.name, self.arguments, self.folder, self.environment, self.umask = marshal.loads(request)

    @property
    def surroundings(self) -> dict[str, str]:
        """The environment as far as an import can depend on it."""
        return {name: value for name, value in self.environment.items() if name not in SHELLS_OWN}

    def runs_in(self, scripts: str) -> bool:
        """Whether it is a command of the folder `scripts`, without options for Python itself."""
        script = os.path.realpath(os.path.join(self.folder, *self.arguments[:1]))
        return os.path.isfile(script) and os.path.dirname(script) == scripts

    def run(self) -> None:
        """Do in this process what `python` does with the command line."""
        for number, stream in enumerate(self.streams):
            os.dup2(stream, number)
            os.close(stream)
        if os.isatty(1):
            sys.stdout.reconfigure(line_buffering=True)
        os.chdir(self.folder)
        os.umask(self.umask)
        os.environ.clear()
        os.environ.update(self.environment)
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()  # as `random` does by itself
        if "torch" in sys.modules:
            sys.modules["torch"].default_generator.seed()
        script = os.path.abspath(self.arguments[0])
        sys.argv[:], sys.path[0] = self.arguments, os.path.dirname(os.path.realpath(script))
        module = types.ModuleType("__main__")
        loader = SourceFileLoader("__main__", script)
        vars(module).update(
            __annotations__={}, __builtins__=builtins, __cached__=None, __file__=script, __loader__=loader
        )
        sys.modules["__main__"] = module

        def show(kind: type, error: BaseException, trace: types.TracebackType | None) -> None:
            """An error as Python shows it, without the calls that have led to the script."""
            while trace and trace.tb_frame.f_globals is not vars(module):
                trace = trace.tb_next
            sys.__excepthook__(kind, error.with_traceback(trace), trace)

        sys.excepthook = show
        exec(loader.source_to_code(loader.get_data(script), script), vars(module))
        # What Python does at its end, except that it would then take apart, for half a second, what was never its own.
        threading._shutdown()
        atexit._run_exitfuncs()
        gc.collect()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class Server:
    """Forks for each client of a listening socket, until standard input ends.

    In `folder`, the file `SHELL-CLIENT.worker`, by their process ids, names the process that does a client's job, and
    `SHELL-CLIENT.used` its peak memory (KiB) and CPU seconds when it has ended.
    """

    def __init__(self, listener: socket.socket, folder: Path, names: tuple[str, ...]):
        self.folder, self.names, self.scripts = folder, names, os.getcwd()
        self.surroundings: dict[str, str] | None = None
        self.forks_compute = False
        self.events = selectors.DefaultSelector()
        self.events.register(listener, selectors.EVENT_READ, self.accept)
        self.events.register(0, selectors.EVENT_READ, self.end)

    def wait_for_job(self) -> Job:
        """Serve clients. Returns in forked processes only, with the job to do there."""
        while True:
            # One event at a time, since it may be the end of what another one is about.
            (key, _), *_ = self.events.select()
            if job := key.data(key.fileobj):
                return job

    def end(self, run: int) -> None:
        """The run has ended, or was killed. Workers that are left die with this process."""
        remove(self.folder)
        os._exit(0)

    def accept(self, listener: socket.socket) -> Job | None:
        """Fork for a client, or close the connection, which means no. Returns the job in the forked process."""
        connection, _ = listener.accept()
        job = Job(connection)
        if self.takes(job):
            with suppress(OSError):
                # Before the fork: what may have begun must not begin again, should this process be killed.
                connection.sendall(b"w")
            server, worker = os.getpid(), os.fork()
            if worker == 0:
                self.leave(server)
                connection.close()
                return job
            self.watch(worker, connection, job.name)
        else:
            connection.close()
        for stream in job.streams:
            os.close(stream)
        return None

    def takes(self, job: Job) -> bool:
        """Whether a fork of this process can do the job. The first one decides in which environment imports are made.

        Another environment, such as that of a job with more threads, might mean other imports.
        """
        if not job.runs_in(self.scripts):
            return False
        if self.surroundings is None:
            self.surroundings = job.surroundings
            os.environ.clear()
            os.environ.update(job.environment)
            preload(self.names)
            self.forks_compute = forks_reach_the_gpu()
        return self.forks_compute and job.surroundings == self.surroundings

    def leave(self, server: int) -> None:
        """In a forked process: end when the server does, be no part of its process group, close what is its own."""
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        os.setpgid(0, 0)
        for key in list(self.events.get_map().values()):
            os.close(key.fd) if isinstance(key.fileobj, int) else key.fileobj.close()
        self.events.close()

    def watch(self, worker: int, connection: socket.socket, name: str) -> None:
        """Pass signals on to a worker, and its end to its client; a client that is killed takes it along."""
        (self.folder / f"{name}.worker").write_text(str(worker))

        def forward(connection: socket.socket) -> None:
            try:
                numbers = connection.recv(64)
            except OSError:
                numbers = b""
            for number in numbers:
                os.kill(worker, number)
            if not numbers:
                self.events.unregister(connection)
                os.kill(worker, signal.SIGKILL)

        def finish(process: int) -> None:
            _, status, used = os.wait4(worker, 0)
            (self.folder / f"{name}.used").write_text(f"{used.ru_maxrss} {used.ru_utime + used.ru_stime}")
            (self.folder / f"{name}.worker").unlink()
            self.events.unregister(process)
            os.close(process)
            with suppress(KeyError):
                self.events.unregister(connection)
            with suppress(OSError):
                connection.sendall(str(status).encode())
            connection.close()

        self.events.register(os.pidfd_open(worker), selectors.EVENT_READ, finish)
        self.events.register(connection, selectors.EVENT_READ, forward)


def preload(names: tuple[str, ...]) -> None:
    """Import modules, as far as they can be; a job that needs one that cannot be meets the error itself."""
    for name in names:
        with suppress(ImportError):
            module = importlib.import_module(name)
            if name == "hps":
                for found in pkgutil.walk_packages(module.__path__, "hps."):
                    with suppress(ImportError):
                        importlib.import_module(found.name)
    gc.collect()
    gc.freeze()  # so that no worker's garbage collector writes to memory that all share


def forks_reach_the_gpu() -> bool:
    """Whether a fork of this process can compute on what torch sees: true without a GPU, and for one that answers.

    Once a process has spoken to a GPU its forks cannot, and an import might do so. A fork finds out.
    """
    torch = sys.modules.get("torch")
    if torch is None or not torch.backends.cuda.is_built():
        return True
    if (trial := os.fork()) == 0:
        failed = 1
        try:
            if torch.cuda.is_available():
                torch.zeros(1, device="cuda")
            failed = int(torch.cuda._is_in_bad_fork())
        finally:
            os._exit(failed)
    return os.waitstatus_to_exitcode(os.waitpid(trial, 0)[1]) == 0


def remove(folder: Path) -> None:
    """Remove a server's folder."""
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()


def serve(listener: str, folder: str, *names: str) -> None:
    """Serve the clients of a listening socket (its number), with these modules imported; in forks, do their job."""
    Server(socket.socket(fileno=int(listener)), Path(folder), names).wait_for_job().run()
