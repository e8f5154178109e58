"""Warm jobs against plain ones: until a job computes, and over a whole run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import measure, ours, startup
from benchmarks.rows import Row, Setting, seconds
from hps.support import warm
from hps.workflow import jobs

LEFT_OUT = shutil.ignore_patterns(".*", "results", "__pycache__")


def start(setting: Setting) -> list[Row]:
    """Seconds until a job computes its first group. Without the warm process's own start, once in a run."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder) / "pairs.parquet"
        startup.write_pairs(pairs)
        given = [str(ours.model_folder("thumbnail", Path(folder) / "model")), str(pairs)]
        private, process = jobs.start(measure.ROOT / "benchmarks", warm.IMPORTS)
        pythons = {"plain": [sys.executable], "warm": jobs.client(private)}
        for job in ("train", "score"):

            def until_it_computes(python: list[str], job: str = job) -> float:
                started = time.time()
                command = [*python, str(measure.ROOT / "benchmarks/startup.py"), job, *given]
                done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=measure.ROOT)
                return float(done.stdout) - started

            timed = measure.interleaved(
                {name: lambda repeat, python=python: until_it_computes(python) for name, python in pythons.items()},
                setting.repeats,
            )
            what = f"seconds until a {job} job computes, plain / warm"
            facts = {"model": "thumbnail", "dtype": "float32", "pairs": "one", "repeats": setting.repeats}
            ratio = measure.ratios(timed["plain"], timed["warm"])
            rows.append(Row(f"warm_start_{job}", what, ratio, 4.0, facts=facts | seconds(timed)))
        jobs.stop(private, process)
    return rows


def whole_run(setting: Setting) -> list[Row]:
    """Seconds of the whole DAG, cut down as in the tests, from nothing to the report."""

    def run(warm_jobs: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkout = shutil.copytree(measure.ROOT, Path(folder) / "checkout", ignore=LEFT_OUT)
            command = [sys.executable, "-m", "snakemake", "--cores", "2", "all", "--configfile", "tests/smoke.yaml"]
            command += ["--config", f"compute={{warm_jobs: {str(warm_jobs).lower()}}}"]
            environment = os.environ | {"HPS_DATA_DIR": ""}
            subprocess.run(command, check=True, capture_output=True, cwd=checkout, env=environment)

    cases = {"plain": lambda repeat: run(False), "warm": lambda repeat: run(True)}
    timed = measure.interleaved(cases, 1, warmups=0)
    facts = {"model": "tiny", "dtype": "float32", "pairs": "tests/smoke.yaml", "repeats": 1}
    what = "seconds of the whole run, cut down, plain / warm"
    return [Row("warm_run", what, measure.ratios(timed["plain"], timed["warm"]), facts=facts | seconds(timed))]
