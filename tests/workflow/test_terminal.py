"""What a run shows, in a pipe: lines, not blocks; the whole account is in Snakemake's own log."""

import re
import subprocess
import sys

from conftest import SCRIPTS, python_environment

SNAKEFILE = f"""
import sys
sys.path.insert(0, {str(SCRIPTS)!r})
from hps.workflow import terminal
onstart:
    terminal.show_lines(logger)
rule all:
    input: "good.txt", "bad.txt"
rule write:
    output: "{{what}}.txt"
    log: "{{what}}.log"
    shell: "(for i in $(seq 40); do echo line $i; done; [ {{wildcards.what}} = good ] && touch {{output}}) > {{log}}"
"""


def test_a_finished_job_is_a_line_and_a_failed_one_shows_the_end_of_its_log(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going"]
    run = {"cwd": tmp_path, "env": python_environment(), "capture_output": True, "text": True}
    done = subprocess.run(command, **run)
    assert done.returncode == 1
    assert re.search(r"^\[1/3\] write good, about \d:\d\d:\d\d left$", done.stderr, re.M)
    failed = done.stderr.split("Failed: write bad\n  the end of bad.log:\n")[1].splitlines()
    assert failed[:15] == [f"    line {i}" for i in range(26, 41)]
    for word in ("jobid", "wildcards:", "resources:", "Select jobs", "CalledProcessError", "line 25"):
        assert word not in done.stderr
    (log,) = (tmp_path / ".snakemake/log").glob("*.log")
    assert "wildcards: what=good" in log.read_text()
