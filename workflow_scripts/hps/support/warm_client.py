"""What `python` is to a job of a run with a warm process: hands the job over, and behaves as if it were the job.

    python -IS workflow_scripts/hps/support/warm_client.py FOLDER_OF_THE_WARM_PROCESS COMMAND.py ARGUMENTS...

Signals go on to the job; the job's end, by exit code or by signal, becomes this process's own. Where the warm process
refuses the job or is gone, this becomes a Python of the job's own, or ends by a signal that has come meanwhile. It
imports little, since every job waits for it.
"""

import marshal
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

FORWARDED = [
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGTSTP, signal.SIGCONT),
]


def main(folder: str, *arguments: str) -> None:
    received: list[int] = []
    with socket.socket(socket.AF_UNIX) as server, suppress(OSError):
        at_socket(folder, server.connect)
        hand_over(server, arguments, received)
        if server.recv(1):  # it has forked
            finish(server.recv(16))
    if received:
        end_by(received[0])
    os.execv(sys.executable, [sys.executable, *arguments])


def at_socket(folder: str, do: Callable[[str], None]) -> None:
    """Bind or connect a socket to the one of a folder, by a short name: one of 108 bytes is too long for the system."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        do(f"/proc/self/fd/{descriptor}/socket")
    finally:
        os.close(descriptor)


def hand_over(server: socket.socket, arguments: tuple[str, ...], received: list[int]) -> None:
    """Send the job: command line, surroundings and streams; from then on pass signals on, and keep those received."""
    umask = os.umask(0)
    os.umask(umask)
    name = f"{os.getppid()}-{os.getpid()}"
    request = marshal.dumps((name, arguments, os.getcwd(), dict(os.environ), umask))

    def forward(number: int, frame: object) -> None:
        # The job is in a process group of its own, where the terminal's stop would have no effect.
        stop = number == signal.SIGTSTP
        with suppress(OSError):
            server.send(bytes([signal.SIGSTOP if stop else number]))
        if stop:
            os.kill(os.getpid(), signal.SIGSTOP)
        elif number != signal.SIGCONT:
            received.append(number)

    # What comes meanwhile waits.
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    for number in FORWARDED:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, forward)
    try:
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(request)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def finish(status: bytes) -> None:
    """End as the job has ended. No status: the warm process was killed, and the job with it."""
    if not status:
        print("error: the process that this job was forked from was killed, and the job with it", file=sys.stderr)
    ended = int(status or signal.SIGKILL)
    if os.WIFSIGNALED(ended):
        end_by(os.WTERMSIG(ended))
    os._exit(os.waitstatus_to_exitcode(ended))


def end_by(number: int) -> None:
    """End by a signal. If there is a core, it is the job's."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


if __name__ == "__main__":
    main(*sys.argv[1:])
