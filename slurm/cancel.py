"""Cancel the SLURM jobs that this folder's workflow has left in the queue.

    make slurm-cancel    (or: python slurm/cancel.py)

Snakemake cancels its jobs when it is interrupted (Ctrl-C), but not when it is killed (kill -9, a lost login node): its
jobs go on, and a Snakemake started after it does not know them and submits them again. Found by working folder and by
the name that the profile gives to jobs.
"""

import getpass
import subprocess
import sys
import time
from pathlib import Path

import yaml

SECONDS = 120
"""How long cancelled jobs may take to end: SLURM's KillWait, 30 s by default, and some."""


def jobs(folder: Path, prefix: str) -> dict[str, str]:
    """The user's jobs that were submitted from `folder` under a name with `prefix`: their ids, and what they do."""
    words = ["squeue", "--user", getpass.getuser(), "--noheader", "--format", "%i|%Z|%j|%k"]
    lines = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = {}
    for line in lines:
        number, workdir, name, comment = line.split("|", maxsplit=3)
        if name.startswith(f"{prefix}_") and Path(workdir).resolve() == folder.resolve():
            found[number] = comment
    return found


def main() -> None:
    folder = Path.cwd()
    prefix = yaml.safe_load(Path(__file__).with_name("config.yaml").read_text())["slurm-jobname-prefix"]
    found = jobs(folder, prefix)
    if not found:
        return print(f"no jobs of {folder}")
    subprocess.run(["scancel", *found], check=True)
    for number, comment in found.items():
        print(f"cancelled {number} {comment}")
    deadline = time.monotonic() + SECONDS
    while jobs(folder, prefix).keys() & found.keys():
        if time.monotonic() > deadline:
            sys.exit(f"error: after {SECONDS} s some of them still run; see squeue")
        time.sleep(1)


if __name__ == "__main__":
    try:
        main()
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
