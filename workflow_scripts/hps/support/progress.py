"""Progress of long jobs: a bar in the job's log, and on the terminal when there is one."""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TextIO

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 5


class _LogAndTerminal:
    """Turns each redrawing of the bar into a line of its own, since several jobs share log readers and terminal.

    The workflow sends a job's stderr to its log file; `/dev/tty` is the user's terminal all the same, and cannot be
    opened where there is none (a cluster job, CI), where the log alone gets the lines.
    """

    def __init__(self) -> None:
        self.streams: list[TextIO] = [sys.stderr]
        if not sys.stderr.isatty():
            with suppress(OSError):
                self.streams.append(open("/dev/tty", "w"))  # noqa: SIM115 (open as long as the bar)

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        for stream in self.streams if line else ():
            stream.write(line + "\n")

    def flush(self) -> None:
        for stream in self.streams:
            stream.flush()


def bar(
    items: Iterable | None = None, *, total: int | None = None, what: str, unit: str = "it", initial: int = 0
) -> tqdm:
    """A tqdm bar over `items` (or to be moved by hand with `.update`), a line every few seconds."""
    return tqdm(
        items,
        total=total,
        desc=what,
        unit=unit,
        initial=initial,
        file=_LogAndTerminal(),
        ascii=False,
        ncols=100,
        mininterval=SECONDS_BETWEEN_LINES,
        miniters=1,
        delay=SECONDS_BETWEEN_LINES,
        disable=bool(os.environ.get("HPS_NO_PROGRESS")),
    )
