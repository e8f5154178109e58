"""What several tests need: a model folder the size of a thumbnail, a copy of the workflow, processes of their own."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine is not a failed property.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")

# Children inherit a signal that is ignored, as it is in what a script starts in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Before torch is imported: small tensors on several threads wait for each other more than they compute.
os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
SCRIPTS = ROOT / "workflow_scripts"
WORDS = "how do i bake plum bread mix the flour with water then wait please open my old door take a key and go home"


def sentence(number: int, length: int) -> str:
    """A deterministic string of words, different for each number."""
    words = WORDS.split()
    return " ".join(words[(number * 7 + i * (number % 5 + 1)) % len(words)] for i in range(length))


def plum_pairs(count: int, seed: int) -> list[dict]:
    """Preference pairs in which a reply that ends with plum is preferred to one that ends with door."""
    rng = random.Random(seed)

    def words(most: int) -> str:
        return sentence(rng.randrange(999), rng.randint(1, most))

    return [
        {"prompt_id": f"{seed}-{i}", "messages": [{"role": "user", "content": words(8)}]}
        | {"chosen": f"{words(5)} plum", "rejected": f"{words(5)} door"}
        for i in range(count)
    ]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A random Llama with grouped-query attention and a BPE tokenizer, saved as the workflow's model folders are."""
    from hps.models.scratch import build_tokenizer, new_llama
    from hps.models.shape import Shape
    from hps.models.sources import save

    tokenizer = build_tokenizer([WORDS], 320)
    shape = Shape(hidden=32, layers=2, heads=4, kv_heads=2, intermediate=64, initializer_range=0.2)
    folder = tmp_path_factory.mktemp("models") / "policy"
    save(folder, new_llama(tokenizer, shape, seed=0), tokenizer, {"role": "policy", "source": "scratch"})
    return folder


def without_hashes(folder: Path) -> Path:
    """A model folder whose files a test has changed, as if it had been written like that."""
    facts = json.loads((folder / "model.json").read_text())
    facts.pop("files")
    (folder / "model.json").write_text(json.dumps(facts))
    return folder


def python_environment(**more: str) -> dict[str, str]:
    """The environment of a child process: one thread, no network, and this interpreter's commands first."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return os.environ | {"PATH": path, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"} | more


@pytest.fixture
def browser(tmp_path):
    """A real browser (tests/in_browser.py)."""
    from in_browser import opened

    driver = opened(tmp_path)
    try:
        yield driver
    finally:
        driver.quit()


def called(*words: object, folder: Path = ROOT, env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    """What this Python says to these words, in a process of its own that has come to its end."""
    env = env or python_environment()
    return subprocess.run([sys.executable, *map(str, words)], cwd=folder, env=env, capture_output=True, text=True)


NO_JUDGE = dict.fromkeys(("HPS_JUDGE_URL", "HPS_JUDGE_MODEL", "HPS_JUDGE_KEY"), "")


def snakemake(*words: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    env = python_environment(**NO_JUDGE | {"HPS_DATA_DIR": ""} | environment)
    return called("-m", "snakemake", "--cores", "1", *words, folder=folder, env=env)


ONCE = ("--configfile", str(ROOT / "tests" / "once.yaml"))


def planned_jobs(done: subprocess.CompletedProcess) -> dict[str, int]:
    """Jobs a rule, from a dry run's statistics."""
    assert done.returncode == 0, done.stderr
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.MULTILINE)}


MADE_HERE = shutil.ignore_patterns(
    ".git", ".venv*", ".snakemake", "results", "logs", "__pycache__", ".*_cache", ".hypothesis"
)


def copied_checkout(folder: Path) -> Path:
    """A copy of the whole checkout, at `folder`, without what was made in it."""
    return Path(shutil.copytree(ROOT, folder, ignore=MADE_HERE))


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the workflow without any results."""
    for name in ("Snakefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("rules", "config", "workflow_scripts", "envs", "report", "paper"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path
