"""Warm jobs: to whoever started one, it is a `python` of its own in all but the time that imports take."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from conftest import SCRIPTS, python_environment

from hps.support import warm
from hps.workflow import jobs

ENVIRONMENT = python_environment()
SHOW = """
import os, sys
print(sys.argv, __name__, __file__, os.getcwd(), sys.path[0], sorted(vars()))
print(sorted(os.environ.items()), os.umask(0o77), sys.stdout.line_buffering)
print(sys.stdin.read(), os.getpgrp() == os.getpid(), file=sys.stderr)
"""
WAIT = """
import os, pathlib, signal, sys, time
got = []
if len(sys.argv) > 2:
    signal.signal(getattr(signal, sys.argv[2]), lambda number, frame: got.append(number))
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
end = time.monotonic() + 60
while not got and time.monotonic() < end:
    time.sleep(0.02)
sys.exit(f"got {got}")
"""
ENDS = {
    "raises": "def f():\n    raise ValueError\ntry:\n    f()\nexcept ValueError as e:\n    raise KeyError from e",
    "error": "import sys\nsys.exit('error: pairs.parquet: no such file')",
    "number": "import atexit, sys\natexit.register(print, 'at exit')\nsys.exit(3)",
    "success": "import atexit\natexit.register(print, 'at exit')\nprint('done', end='')",
    "syntax": "x = = 1",
    "interrupt": "raise KeyboardInterrupt",
    "killed": "import os\nprint('lost')\nos.kill(os.getpid(), 9)",
    "terminated": "import os\nos.kill(os.getpid(), 15)",
    "missing": None,
}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> Path:
    """A folder of commands, as workflow_scripts is."""
    folder = tmp_path_factory.mktemp("scripts")
    for name, code in {"show": SHOW, "wait": WAIT, **ENDS}.items():
        if code is not None:
            (folder / f"{name}.py").write_text(code)
    return folder


PLAIN = [sys.executable]


@pytest.fixture(scope="module")
def client(scripts):
    """`python` as a warm job's shell has it."""
    folder, process = jobs.start(scripts, ["json"])
    yield jobs.client(folder)
    jobs.stop(folder, process)


def call(python: list[str], folder: Path, *words: str, env=None, **more) -> subprocess.CompletedProcess:
    env = env or ENVIRONMENT
    return subprocess.run([*python, *words], cwd=folder, env=env, capture_output=True, text=True, **more)


def running(python: list[str], scripts: Path, sign: Path, *words: str) -> tuple[subprocess.Popen, int]:
    """A job that waits: the process that the shell has started, and the one that does the work."""
    sign.unlink(missing_ok=True)
    words = [*python, "wait.py", str(sign), *words]
    job = subprocess.Popen(words, cwd=scripts, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: sign.exists() and sign.read_text())
    return job, int(sign.read_text())


def catches(process: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    (caught,) = re.findall(r"SigCgt:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return bool(int(caught, 16) >> (number - 1) & 1)


def wait_until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def is_warm(done: subprocess.CompletedProcess) -> bool:
    """Of `show.py`: a forked process leads a process group of its own."""
    return done.stderr.endswith("True\n")


def test_a_warm_job_sees_what_a_plain_one_sees(client, scripts):
    """Command line, folder, environment, umask and streams."""
    words = ("show.py", "--a", "b c", "", "ü")
    forked, plain = (call(python, scripts, *words, input="in", umask=0o27) for python in (client, PLAIN))
    assert (forked.stdout, forked.returncode) == (plain.stdout, 0)
    assert (forked.stderr, plain.stderr) == ("in True\n", "in False\n")


@pytest.mark.parametrize("name", ENDS)
def test_a_warm_job_ends_as_a_plain_one_ends(client, scripts, name):
    forked, plain = (call(python, scripts, f"{name}.py") for python in (client, PLAIN))
    assert (forked.stdout, forked.stderr, forked.returncode) == (plain.stdout, plain.stderr, plain.returncode)


def test_a_temporary_folder_may_have_a_long_name(scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.tempfile, "tempdir", str(tmp_path / ("long" * 40)))
    (tmp_path / ("long" * 40)).mkdir()
    folder, process = jobs.start(scripts, ["json"])
    try:
        assert is_warm(call(jobs.client(folder), scripts, "show.py", input=""))
    finally:
        jobs.stop(folder, process)
    assert not folder.exists()


def test_a_warm_process_that_cannot_start_leaves_nothing(scripts, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(jobs.sys, "executable", str(tmp_path / "none"))
    jobs.warm(scripts, ["json"])
    assert list(tmp_path.iterdir()) == []


def test_options_of_python_itself_and_other_folders_are_left_to_a_python_of_their_own(client, scripts, tmp_path):
    assert call(client, scripts, "-c", "print(1)").stdout == "1\n"
    (tmp_path / "own.py").write_text("import sys; print('hps.support.warm' in sys.modules)")
    assert call(client, tmp_path, "own.py").stdout == "False\n"


def test_another_environment_is_left_to_a_python_of_its_own(client, scripts):
    """Threads, say, are set when torch is imported."""
    assert is_warm(call(client, scripts, "show.py", input=""))
    other = call(client, scripts, "show.py", input="", env=ENVIRONMENT | {"OMP_NUM_THREADS": "2"})
    assert not is_warm(other)
    assert "('OMP_NUM_THREADS', '2')" in other.stdout


TORCH = """
class backends:
    class cuda:
        is_built = staticmethod(lambda: {built})
class cuda:
    _is_in_bad_fork = staticmethod(lambda: {bad_fork})
    is_available = staticmethod(lambda: {available})
def zeros(size, device):
    assert ({answers}, size, device) == (True, 1, "cuda")
class default_generator:
    seed = staticmethod(lambda: 0)
"""


@pytest.mark.parametrize(
    ("built", "bad_fork", "available", "answers", "warm"),
    [
        pytest.param(False, True, True, False, True, id="a torch for processors alone"),
        pytest.param(True, False, False, False, True, id="a torch for GPUs without one"),
        pytest.param(True, False, True, True, True, id="a GPU that a fork reaches"),
        pytest.param(True, True, False, False, False, id="an import has spoken to the GPU"),
        pytest.param(True, False, True, False, False, id="the GPU does not answer a fork"),
    ],
)
def test_jobs_are_warm_where_a_fork_reaches_the_gpu(tmp_path, monkeypatch, built, bad_fork, available, answers, warm):
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "show.py").write_text(SHOW)
    words = {"built": built, "bad_fork": bad_fork, "available": available, "answers": answers}
    (tmp_path / "torch.py").write_text(TORCH.format(**words))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    private, process = jobs.start(folder, ["torch"])
    try:
        done = call(jobs.client(private), folder, "show.py", input="")
    finally:
        jobs.stop(private, process)
    assert (done.returncode, is_warm(done)) == (0, warm)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1"])
@pytest.mark.parametrize("caught", [True, False])
def test_signals_reach_a_warm_job(client, scripts, tmp_path, name, caught):
    ends = []
    for python in (client, PLAIN):
        job, worker = running(python, scripts, tmp_path / "sign", *[name] * caught)
        job.send_signal(getattr(signal, name))
        error = job.communicate(timeout=30)[1]
        ends.append((job.returncode, error.splitlines()[-1:]))
        assert is_gone(worker)
    assert ends[0] == ends[1]


def test_a_stopped_job_stops_and_goes_on(client, scripts, tmp_path):
    job, worker = running(client, scripts, tmp_path / "sign")
    job.send_signal(signal.SIGTSTP)
    wait_until(lambda: psutil.Process(worker).status() == psutil.STATUS_STOPPED)
    job.send_signal(signal.SIGCONT)
    wait_until(lambda: psutil.Process(worker).status() == psutil.STATUS_SLEEPING)
    job.terminate()
    assert job.wait(30) == -signal.SIGTERM


def test_a_job_dies_with_its_client(client, scripts, tmp_path):
    job, worker = running(client, scripts, tmp_path / "sign")
    job.kill()
    wait_until(lambda: is_gone(worker))
    assert is_warm(call(client, scripts, "show.py", input=""))


def test_two_jobs_run_side_by_side(client, scripts, tmp_path):
    both = [running(client, scripts, tmp_path / name) for name in ("one", "two")]
    for job, worker in both:
        assert not is_gone(worker)
        job.terminate()
        assert job.wait(30) == -signal.SIGTERM


def test_jobs_die_with_the_warm_process_and_later_ones_start_plain(scripts, tmp_path):
    folder, process = jobs.start(scripts, ["json"])
    job, worker = running(jobs.client(folder), scripts, tmp_path / "sign")
    process.kill()
    assert "forked from was killed" in job.communicate(timeout=30)[1]
    assert job.returncode == -signal.SIGKILL
    wait_until(lambda: is_gone(worker))
    assert not is_warm(call(jobs.client(folder), scripts, "show.py", input=""))


def test_a_job_that_is_ended_before_it_has_begun_does_not_start_plain(scripts, tmp_path):
    folder, process = jobs.start(scripts, ["json"])
    call(jobs.client(folder), scripts, "success.py")  # from now on it answers
    process.send_signal(signal.SIGSTOP)
    words = [*jobs.client(folder), "wait.py", str(tmp_path / "sign")]
    with subprocess.Popen(words, cwd=scripts, env=ENVIRONMENT) as job:
        wait_until(lambda: catches(job.pid, signal.SIGTERM))
        job.terminate()
        process.kill()
        assert job.wait(30) == -signal.SIGTERM
    assert not (tmp_path / "sign").exists()


def test_the_warm_process_ends_with_its_run_even_when_that_is_killed(scripts, tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from hps.workflow import jobs\n"
        f"folder, process = jobs.start(Path({str(scripts)!r}), ['json'])\n"
        "print(folder, process.pid, flush=True); time.sleep(60)"
    )
    env = ENVIRONMENT | {"PYTHONPATH": str(SCRIPTS)}
    with subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) as run:
        folder, server = run.stdout.readline().split()
        assert Path(folder).stat().st_mode & 0o777 == 0o700
        job, worker = running(jobs.client(Path(folder)), scripts, tmp_path / "sign")
        run.kill()
        wait_until(lambda: is_gone(worker) and is_gone(int(server)))
        assert job.wait(30) == -signal.SIGKILL
        assert not Path(folder).exists()


def test_imports_leave_neither_threads_nor_random_states_to_a_job(scripts):
    """With what real jobs import, on two threads: numbers as in a plain job, and none drawn twice."""
    (scripts / "compute.py").write_text(
        "import os, sys, random, threading, torch, numpy\n"
        "print(len(os.listdir('/proc/self/task')), random.random(), numpy.random.rand(), torch.rand(()).item())\n"
        "torch.manual_seed(0)\n"
        "product = torch.randn(300, 300) @ torch.randn(300, 300)\n"
        "print(torch.get_num_threads(), product.double().sum().item(), file=sys.stderr)\n"
    )
    folder, process = jobs.start(scripts, warm.IMPORTS)
    pythons = [jobs.client(folder), jobs.client(folder), PLAIN]
    done = [call(python, scripts, "compute.py", env=ENVIRONMENT | {"OMP_NUM_THREADS": "2"}) for python in pythons]
    jobs.stop(folder, process)
    assert done[0].stderr == done[1].stderr == done[2].stderr
    assert done[0].stderr.startswith("2 ")
    threads, *drawn = zip(*(job.stdout.split() for job in done), strict=True)
    assert threads[:2] == ("1", "1")
    assert all(len(set(numbers)) == 3 for numbers in drawn)


def test_a_folder_is_left_over_when_its_maker_is_dead_or_younger_than_it(tmp_path):
    for number, made, alive in ((os.getpid(), time.time(), True), (os.getpid(), 1.0, False), (2**31 - 2, 1.0, False)):
        folder = tmp_path / f"hps-{number}-{made}"
        folder.mkdir()
        (folder / "socket").touch()
        os.utime(folder / "socket", (made, made))
        assert jobs.in_use(folder) == alive


def test_what_killed_runs_left_is_removed_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs.tempfile, "gettempdir", lambda: str(tmp_path))
    names = [f"hps-{os.getpid()}-new", f"hps-{2**31 - 2}-old", "hps-slurm-tests"]
    for name in names:
        (tmp_path / name).mkdir()
    jobs.remove_left_over()
    assert [(tmp_path / name).exists() for name in names] == [True, False, True]


SNAKEFILE = """
import sys
sys.path.insert(0, {package!r})
from hps.workflow import jobs
onstart:
    if config["warm"] and jobs.can_be_warm(workflow):
        jobs.warm(jobs.Path({scripts!r}), ["json"])
rule job:
    output: "out"
    log: "log"
    benchmark: "bench.tsv"
    params: what=config["what"]
    shell: "python {scripts}/work.py {{params.what}} {{output}} > {{log}} 2>&1"
"""
WORK = """
import os, pathlib, sys, time
print("working", flush=True)
what, out = sys.argv[1:]
sum(range(3_000_000))
held = bytearray(200 * 2**20) if what != "short" else bytes(1)
time.sleep({"short": 0, "long": 2, "wait": 60}.get(what, 2))
if what == "fail":
    sys.exit("error: nothing to do")
pathlib.Path(out).write_text(f"{what} {os.getpgrp() == os.getpid()}")
"""


@pytest.fixture
def run(scripts, tmp_path):
    """A way to start a workflow of one job."""
    (scripts / "work.py").write_text(WORK)
    (tmp_path / "Snakefile").write_text(SNAKEFILE.format(package=str(SCRIPTS), scripts=str(scripts)))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--printshellcmds", "job", "--config"]

    def start(what: str, warm: bool, **more) -> subprocess.Popen:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        words = [f"what={what}", f"warm={warm}"]
        return subprocess.Popen([*command, *words], cwd=tmp_path, env=ENVIRONMENT, **streams, **more)

    return start


def finished(process: subprocess.Popen, folder: Path) -> dict:
    """What a run has left, and how it showed the job's command."""
    said = process.communicate(timeout=120)[0]
    files = {name: (folder / name) for name in ("out", "log", "bench.tsv")}
    left = {name: path.read_text() for name, path in files.items() if path.exists()}
    commands = [line for line in said.splitlines() if line.lstrip().startswith("python")]
    for path in files.values():
        path.unlink(missing_ok=True)
    return left | {"code": process.returncode, "said": commands}


def record(benchmark: str) -> dict[str, str]:
    return dict(zip(*(line.split("\t") for line in benchmark.splitlines()), strict=True))


def test_snakemake_says_and_records_the_same_of_a_warm_job(run, tmp_path):
    warm_run, plain_run = (finished(run("long", warm), tmp_path) for warm in (True, False))
    assert (warm_run.pop("out"), plain_run.pop("out")) == ("long True", "long False")
    records = [record(run.pop("bench.tsv")) for run in (warm_run, plain_run)]
    assert warm_run == plain_run
    for name in ("max_rss", "max_uss", "max_pss"):
        memory = [float(written[name]) for written in records]
        assert memory[0] == pytest.approx(memory[1], abs=40)
        assert memory[0] > 200


def test_a_warm_job_too_short_to_be_looked_at_has_a_record(run, tmp_path):
    written = record(finished(run("short", True), tmp_path)["bench.tsv"])
    assert float(written["max_rss"]) > 8
    assert float(written["cpu_time"]) > 0


def test_snakemake_fails_with_a_warm_job_as_with_a_plain_one(run, tmp_path):
    warm_run, plain_run = (finished(run("fail", warm), tmp_path) for warm in (True, False))
    assert warm_run == plain_run
    assert warm_run["code"] == 1
    assert warm_run["log"] == "working\nerror: nothing to do\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_no_process_is_left_when_snakemake_is_stopped(run, tmp_path, number):
    """As from a terminal: an interrupt goes to the whole process group. A kill goes to Snakemake alone."""
    process = run("wait", True, process_group=0)
    log = tmp_path / "log"
    wait_until(lambda: log.exists() and log.read_text())
    family = psutil.Process(process.pid).children(recursive=True)
    assert any("warm.serve" in word for child in family for word in child.cmdline())
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    process.communicate(timeout=60)
    wait_until(lambda: all(is_gone(child.pid) for child in family))
    assert log.read_text().count("KeyboardInterrupt") == (number == signal.SIGINT)
