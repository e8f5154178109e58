"""What the terminal shows of a run: a line for each finished job with the time left, and why a job has failed.

Snakemake's own account, some twenty lines a job, stays in `.snakemake/log/`.
"""

from __future__ import annotations

import logging
import time
from datetime import timedelta
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

IN_THE_LOG_ALONE = {LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.SHELLCMD, LogEvent.RESOURCES_INFO}
LAST_LINES = 15


def show_lines(logger: logging.Logger) -> None:
    """Replace what Snakemake writes to the terminal; a logger plugin that the user has asked for stays as it is."""
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            lines = Lines(handler.formatter)
            handler.addFilter(lines.are_made_of)
            handler.setFormatter(lines)


class Lines(logging.Formatter):
    """Turns Snakemake's log records into lines; those of no job are formatted as before."""

    def __init__(self, others: logging.Formatter):
        super().__init__()
        self.others = others
        self.began = time.monotonic()
        self.jobs: dict[int, str] = {}
        self.finished = ""

    def are_made_of(self, record: logging.LogRecord) -> bool:
        """Whether a record is shown. What it says of a job is kept for the job's line."""
        event = getattr(record, "event", None)
        if event == LogEvent.JOB_INFO:
            self.jobs[record.jobid] = " ".join([record.rule_name, *map(str, record.wildcards.values())])
        if event == LogEvent.JOB_FINISHED:
            self.finished = self.jobs.pop(record.job_id, "")
        choice = event is None and str(record.msg).startswith("Select jobs")
        # Of a failed command, the job's own record says more.
        command = event == LogEvent.ERROR and "CalledProcessError" in record.getMessage()
        return event not in {LogEvent.JOB_INFO, *IN_THE_LOG_ALONE} and not choice and not command

    def format(self, record: logging.LogRecord) -> str:
        event = getattr(record, "event", None)
        if event == LogEvent.PROGRESS:
            spent = time.monotonic() - self.began
            left = timedelta(seconds=round(spent / record.done * (record.total - record.done)))
            return f"[{record.done}/{record.total}] {self.finished}, about {left} left"
        if event == LogEvent.JOB_ERROR:
            name = self.jobs.get(record.jobid, record.rule_name)
            facts = [f"  {line}" for line in (record.rule_msg or "").splitlines()]  # of a cluster's job, as the next
            facts += [f"  {key}: {value}" for key, value in record.aux.items()]
            return "\n".join([f"Failed: {name}", *facts, *(line for path in record.log for line in end_of(path))])
        return self.others.format(record)


def end_of(path: str) -> list[str]:
    """The last lines of a log file, under its name."""
    file = Path(path)
    lines = file.read_text(errors="replace").splitlines() if file.is_file() else []
    return [f"  the end of {path}:", *(f"    {line}" for line in lines[-LAST_LINES:])]
