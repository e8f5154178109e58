"""Build the Dockerfile's image for real, without Docker, and run tests and the cut-down DAG in it.

    python tests/image/run.py [--quick]

As root on Debian, with buildah (tests/image/install). Only the base differs from a build elsewhere: under the name that
the Dockerfile's FROM says stands a Debian 12 with its Python 3.11, git and make, made by debootstrap, so that no
registry of images is asked. Images and containers lie in a temporary folder, which is removed. pip finds its packages
as it does outside: its settings are mounted while the image is built and are no part of it.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = "python3-venv,git,make,ca-certificates"
# The rooms whose code depends most on the machine and its packages; all others are plain Python on files.
UNIT = "tests/support tests/method tests/data tests/logprobs tests/models tests/generation tests/workflow/test_envs.py"
ENVIRONMENT = os.environ | {"STORAGE_DRIVER": "vfs", "BUILDAH_ISOLATION": "chroot"}

# buildah starts itself again from a copy in memory, which the kernel does not seal while any of its pages is in use. On
# a busy machine one may be, for a moment.
NOT_STARTED, ATTEMPTS = "sealing memfd", 5


def main() -> None:
    cut = "tests/slurm/quick.yaml" if sys.argv[1:] == ["--quick"] else "tests/smoke.yaml"
    with tempfile.TemporaryDirectory(prefix="hps-image-") as name:
        folder = Path(name)

        def buildah(*words: str | Path) -> str:
            own = ("--root", folder / "storage", "--runroot", folder / "run")
            for _ in range(ATTEMPTS):
                done = subprocess.run(["buildah", *own, *words], env=ENVIRONMENT, capture_output=True, text=True)
                if not (done.returncode and NOT_STARTED in done.stderr):
                    break
                time.sleep(1)
            if done.returncode:
                sys.exit(f"error: buildah {words[0]}\n{done.stdout[-6000:]}{done.stderr[-6000:]}")
            return done.stdout

        with timed("base: debootstrap"):
            subprocess.run(
                ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", folder / "base"],
                stdout=subprocess.DEVNULL,
                check=True,
            )
            base = buildah("from", "scratch").strip()
            buildah("add", "--quiet", base, folder / "base", "/")
            (name,) = re.findall(r"^FROM (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
            buildah("commit", "--quiet", "--rm", base, name)
        with timed("image: the Dockerfile's steps"):
            settings = pip_settings(folder)
            buildah("bud", "--pull-never", *settings, "--tag", "hps-replica", "--file", ROOT / "Dockerfile", ROOT)
        container = buildah("from", "--pull-never", "hps-replica").strip()
        command = re.search(r"Cmd: *(.*)", buildah("inspect", "--format", "Cmd: {{.OCIv1.Config.Cmd}}", container))[1]
        assert command == "[make reproduce]", command
        leaked = "test -s /etc/pip.conf || env | grep ^PIP_"
        buildah("run", container, "--", "sh", "-c", f"! ({leaked})")
        for what, words in (
            (f"tests: {UNIT}", f'python -m pytest -q -m "not workflow" {UNIT}'),
            (f"the DAG of {cut}", f"snakemake --cores 2 all --configfile {cut} && test -s results/tiny/report.html"),
        ):
            with timed(what):
                said = buildah("run", "--env", "HF_HUB_OFFLINE=1", container, "--", "sh", "-c", f"({words}) 2>&1")
            print("\n".join(said.splitlines()[-2:]), flush=True)


def pip_settings(folder: Path) -> list[str]:
    """Options that mount this machine's settings of pip, and the files they name, at their places."""
    said = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found = re.findall(r"^\S+\.([\w-]+)='(.*)'$", said.stdout, re.MULTILINE)
    values: dict[str, str] = {}
    for key, value in found:
        values[key] = " ".join(dict.fromkeys([*values.get(key, "").split(), *value.split()]))
    (folder / "pip.conf").write_text("[global]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
    # An index of files, .../simple, has them beside it.
    indexes = {Path(path).parent for value in values.values() for path in re.findall(r"file://(/\S+)", value)}
    named = {Path(path) for value in values.values() for path in re.findall(r"(?:^|\s)(/\S+)", value)} | indexes
    mounts = [(folder / "pip.conf", "/etc/pip.conf"), *((path, path) for path in sorted(named) if path.exists())]
    return [word for source, place in mounts for word in ("--volume", f"{source}:{place}:ro")]


class timed:
    """Says what took how long."""

    def __init__(self, what: str):
        self.what = what

    def __enter__(self) -> None:
        self.start = time.monotonic()

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            print(f"{self.what}, {time.monotonic() - self.start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
