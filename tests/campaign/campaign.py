"""Kills a run at random moments, again and again, resumes it to its end, and compares the results byte for byte.

    make campaign MINUTES=30 SEED=7

The comparison is with an undisturbed run of the same code, which is kept in the work folder for the next campaign. Each
round starts from nothing, or from that run without what a stage and those after it have made, so that kills meet every
stage. The seed decides stages, kinds and waits; what a job does at that moment is the machine's affair.
A failing node of a cluster is killed in tests/slurm (`make test-slurm`); here, `node` kills all processes at once.
"""

import argparse
import contextlib
import hashlib
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
import hashes
from conftest import ROOT, python_environment

CONFIG = Path("tests/campaign/cut.yaml")
PARTS = ("Snakefile", "config.yaml", "config", "rules", "profiles", "report", "paper", "envs", "workflow_scripts")
"""What a run consists of, beside its configuration."""
LONGEST = 20.0
"""Seconds of a run before a kill, at most; a kill that waits for a moment waits as long again."""
PATIENCE = 900
"""Seconds within which a run that nobody disturbs any more must end."""
WARM = "from hps.support import warm"
"""In the command line of the warm process and its forks."""
STAGES = ("models", "candidates", "scored", "reference", "prompts", "examples", "runs", "evaluations")
"""Folders of the results, each made from those before it; all others are made from these."""
KEPT = ("data", "logs", "benchmarks")
"""Folders that every round from a stage on finds as they were."""
DISK = 256 << 20
"""Bytes of the file system that a campaign fills, where it may mount one."""


class Failure(Exception):
    """A run that did not survive, with the end of what it said."""


class Run:
    """One call of Snakemake in a workspace, with all the processes that it starts."""

    def __init__(self, folder: Path, target: str, warm: bool):
        self.folder = folder
        temporary = folder / "temporary"
        temporary.mkdir(exist_ok=True)
        self.said = folder / "said.txt"
        words = [*("--cores", "2", target, "--configfile", CONFIG.name)]
        words += ["--config", f"compute={{warm_jobs: {str(warm).lower()}}}"]
        with self.said.open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *words],
                cwd=folder,
                stdout=said,
                stderr=said,
                start_new_session=True,
                env=python_environment(TMPDIR=str(temporary), HPS_DATA_DIR="", HPS_JUDGE_URL=""),
            )
        self.main = psutil.Process(process.pid)
        self.process = process

    def processes(self) -> list[psutil.Process]:
        """Those of this call that are alive, its own first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.main, *self.main.children(recursive=True)]
        return []

    def of(self, *words: str) -> list[psutil.Process]:
        """Those with one of these words in their command line."""
        found = []
        for process in self.processes()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                if any(word in " ".join(process.cmdline()) for word in words):
                    found.append(process)
        return found

    def jobs(self) -> list[psutil.Process]:
        """What does a job's work: a fork of the warm process, or a command of its own; and who waits for it."""
        return [process for process in self.of("workflow_scripts/", WARM) if not of_run(process)]

    def ended(self, within: float) -> bool:
        """Wait for the end; whether it came."""
        try:
            self.process.wait(within)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> str:
        """The end of what it said."""
        return self.said.read_text()[-3000:]


def of_run(process: psutil.Process) -> bool:
    """Whether it is the warm process itself, of whose forks none is its parent."""
    with contextlib.suppress(psutil.NoSuchProcess):
        own, parent = (" ".join(one.cmdline()) if one else "" for one in (process, process.parent()))
        return WARM in own and WARM not in parent
    return True


def kill(processes: list[psutil.Process]) -> bool:
    """SIGKILL them all; whether there was one."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(processes)


def partials(folder: Path) -> set[str]:
    """What is half written among the results."""
    return {
        f"{place}/{name}"
        for place, folders, files in os.walk(folder / "results")
        for name in [*folders, *files]
        if name.endswith(".partial")
    }


def at(moment: Callable[[], bool], run: Run) -> bool:
    """Kill the whole run as soon as `moment` is seen; whether it was."""
    end = time.monotonic() + LONGEST
    while time.monotonic() < end and run.process.poll() is None:
        if moment():
            return kill(run.processes())
    return False


# --- the kinds of kills: each says whether it had something to kill -------------------------------------------------


def kill_job(run: Run, rng: random.Random) -> bool:
    with contextlib.suppress(IndexError, psutil.NoSuchProcess):
        return kill([rng.choice(run.jobs())])
    return False


def kill_snakemake(run: Run, rng: random.Random) -> bool:
    return kill([run.main])


def kill_group(run: Run, rng: random.Random) -> bool:
    os.killpg(run.main.pid, signal.SIGKILL)
    return True


def kill_warm(run: Run, rng: random.Random) -> bool:
    return kill([process for process in run.of(WARM) if of_run(process)])


def kill_node(run: Run, rng: random.Random) -> bool:
    return kill(run.processes())


def interrupt(run: Run, rng: random.Random) -> bool:
    os.killpg(run.main.pid, rng.choice([signal.SIGINT, signal.SIGTERM]))
    return True


def kill_at_checkpoint(run: Run, rng: random.Random) -> bool:
    """While a training writes a checkpoint, between its last byte and its name."""
    places = [*(run.folder / "results").glob("*/checkpoints/*/*")]

    def writes() -> bool:
        places[:] = places or (run.folder / "results").glob("*/checkpoints/*/*")
        return any(name.startswith(".checkpoint.") for place in places for name in os.listdir(place))

    return at(writes, run)


def kill_while_writing(run: Run, rng: random.Random) -> bool:
    """At the first sight of a half-written file or folder."""
    before = partials(run.folder)
    return at(lambda: bool(partials(run.folder) - before), run)


def kill_at_rename(run: Run, rng: random.Random) -> bool:
    """At the moment at which something gets its name."""
    before, seen = partials(run.folder), set()

    def renamed() -> bool:
        nonlocal seen
        now = partials(run.folder) - before
        gone, seen = seen - now, now
        return bool(gone)

    return at(renamed, run)


def fill_disk(run: Run, rng: random.Random) -> bool:
    """No room, or some kilobytes of it, until the run has ended."""
    filler = run.folder / "filler"
    room = shutil.disk_usage(run.folder).free - rng.choice([0, 1, 30, 300]) * 1024
    with filler.open("wb") as stream, contextlib.suppress(OSError):
        os.posix_fallocate(stream.fileno(), 0, max(room, 1))
    try:
        if not run.ended(LONGEST):
            kill(run.processes())
    finally:
        filler.unlink()
    return True


def forbid_writing(run: Run, rng: random.Random) -> bool:
    """Results that can only be read, until the run has ended."""
    results = str(run.folder / "results")
    if not os.path.isdir(results):
        return False
    subprocess.run(["mount", "--bind", results, results], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", results], check=True)
    try:
        if not run.ended(LONGEST):
            kill(run.processes())
    finally:
        subprocess.run(["umount", "--lazy", results], check=True)
    return True


KINDS = {
    "job": kill_job,
    "Snakemake": kill_snakemake,
    "process group": kill_group,
    "warm process": kill_warm,
    "node": kill_node,
    "interrupt": interrupt,
    "checkpoint": kill_at_checkpoint,
    "writing": kill_while_writing,
    "rename": kill_at_rename,
}
WITH_A_DISK = {"full disk": fill_disk, "read-only": forbid_writing}
"""Those that need a file system of their own, hence root."""


# --- the campaign ---------------------------------------------------------------------------------------------------


class Campaign:
    """Rounds of kills in one workspace, counted."""

    def __init__(self, folder: Path, target: str, seed: int):
        self.folder, self.target, self.rng = folder, target, random.Random(seed)
        self.undisturbed = undisturbed(folder, target)
        self.reference = content(self.undisturbed)
        self.workspace = folder / "run"
        self.kills: Counter[str] = Counter()
        self.restarts = self.rounds = 0
        self.differences: list[str] = []

    def run(self, minutes: float, most: int | None = None) -> None:
        """Rounds until the time is over, or `most` kills have been made; the last one goes undisturbed to its end."""
        end = time.monotonic() + 60 * minutes

        def goes_on() -> bool:
            return time.monotonic() < end and (most is None or self.kills.total() < most)

        with file_system(self.workspace) as own:
            self.kinds = KINDS | (WITH_A_DISK if own else {})
            while goes_on():
                self.round(goes_on)

    def round(self, goes_on: Callable[[], bool]) -> None:
        """From nothing, or from a stage that is drawn, to the end."""
        self.begin()
        self.rounds += 1
        while not self.call(goes_on):
            self.restarts += 1
        self.check()

    def begin(self) -> None:
        """The workspace of a round."""
        clear(self.workspace)
        stage = self.rng.choice(["", *STAGES])
        print(f"round {self.rounds}: from {stage or 'nothing'} on", flush=True)
        if not stage:
            return copy_to(self.workspace)
        left_out = shutil.ignore_patterns("temporary", "said.txt", "done")
        shutil.copytree(self.undisturbed, self.workspace, symlinks=True, ignore=left_out, dirs_exist_ok=True)
        kept = {*KEPT, *STAGES[: STAGES.index(stage)]}
        if STAGES.index(stage) > STAGES.index("runs") or self.rng.random() < 0.5:  # else runs come from their links
            kept.add("checkpoints")
        for path in (self.workspace / "results").glob("*/*"):
            if path.name not in kept:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def call(self, goes_on: Callable[[], bool]) -> bool:
        """Snakemake once, disturbed; whether it came to its end all the same."""
        run, killed = Run(self.workspace, self.target, warm=self.rng.random() < 0.7), ""
        try:
            while goes_on() and run.process.poll() is None:  # it may survive the loss of a job
                killed = self.disturb(run) or killed
            if not run.ended(PATIENCE):
                raise Failure(f"no end within {PATIENCE} s of {killed or 'the start'}:\n{run.end()}")
        finally:
            kill(run.processes())
        if run.process.returncode and not killed:
            raise Failure(f"failed by itself:\n{run.end()}")
        return not run.process.returncode

    def disturb(self, run: Run) -> str:
        """Wait, and kill; the kind, if there was anything to kill."""
        kind = self.rng.choice(list(self.kinds))
        if not run.ended(self.rng.uniform(0, LONGEST)) and self.kinds[kind](run, self.rng):
            self.kills[kind] += 1
            print(f"{self.kills.total():4} {kind}", flush=True)
            return kind
        return ""

    def check(self) -> None:
        """Nothing is left over, and every file is as in the undisturbed run."""
        psutil.wait_procs(working_in(self.workspace), PATIENCE)  # jobs that have outlived their Snakemake
        left = partials(self.workspace) | {str(path) for path in (self.workspace / "temporary").glob("hps-*")}
        left |= {
            str(path)
            for path in self.workspace.glob("results/*/checkpoints/*/*/*")
            if path.name != "finished"  # links to the outputs
        }
        found = [f"left over: {path}" for path in sorted(left)]
        ours = content(self.workspace)
        names = sorted({*ours, *self.reference})
        found += [f"differs: {name}" for name in names if ours.get(name) != self.reference.get(name)]
        print(f"     {len(names)} files compared, {len(found)} differences", flush=True)
        self.differences += found

    def summary(self) -> str:
        """One line."""
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.kills.most_common())
        return (
            f"{self.kills.total()} kills ({kinds}), {self.restarts} restarts, {self.rounds} rounds, "
            f"{len(self.reference)} files compared in each, {len(self.differences)} differences"
        )


def working_in(folder: Path) -> list[psutil.Process]:
    """The processes whose working folder this is, or one in it."""
    own = folder.resolve()
    return [one for one in psutil.process_iter(["cwd"]) if own in [(at := Path(one.info["cwd"] or "/")), *at.parents]]


def content(workspace: Path) -> dict[str, str]:
    """The hash of every adapter, parquet file and table (but for times), by path."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        hashes.main(str(workspace / "results"))
    lines = (line.partition(" ") for line in said.getvalue().splitlines())
    return {name: digest for digest, _, name in lines}


def undisturbed(folder: Path, target: str) -> Path:
    """The workspace of a run of this code, which is made if it has not been; one that was cut off goes on."""
    workspace = folder / f"undisturbed-{target}-{version()}"
    done = workspace / "done"
    if not done.exists():
        copy_to(workspace)
        run = Run(workspace, target, warm=True)
        run.process.wait()
        if run.process.returncode:
            raise Failure(f"the undisturbed run failed:\n{run.end()}")
        done.touch()
    return workspace


def version() -> str:
    """A hash of all that a run consists of."""
    digest = hashlib.sha256((ROOT / CONFIG).read_bytes())
    for path in sorted(path for part in PARTS for path in [ROOT / part, *(ROOT / part).rglob("*")] if path.is_file()):
        if "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def copy_to(workspace: Path) -> None:
    """Make a checkout that can run, where there is none."""
    workspace.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / part for part in (*PARTS, CONFIG)):
        if path.is_dir():
            left_out = shutil.ignore_patterns("__pycache__")
            shutil.copytree(path, workspace / path.name, ignore=left_out, dirs_exist_ok=True)
        else:
            shutil.copy2(path, workspace / path.name)


def clear(folder: Path) -> None:
    """Remove what is in a folder."""
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def file_system(folder: Path) -> Iterator[bool]:
    """A small file system of its own at `folder`, where one may be mounted; says whether."""
    if folder.is_mount():  # of a campaign that was killed
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "campaign", str(folder)]
    own = os.geteuid() == 0 and subprocess.run(words, capture_output=True).returncode == 0
    if not own:
        print(f"no {' and no '.join(WITH_A_DISK)}: no file system can be mounted here, which takes root", flush=True)
    try:
        yield own
    finally:
        clear(folder)
        if own:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--folder", type=Path, default=ROOT / ".campaign")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}; the undisturbed run first", flush=True)
    campaign = Campaign(arguments.folder, "all", arguments.seed)
    try:
        campaign.run(arguments.minutes)
    except Failure as failure:
        campaign.differences.append(str(failure))
    except KeyboardInterrupt:
        print("ended by hand, in the middle of a round")
    print("\n".join([*campaign.differences, campaign.summary()]))
    sys.exit(bool(campaign.differences))


if __name__ == "__main__":
    main()
