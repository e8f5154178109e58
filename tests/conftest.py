"""What several tests need: a model folder the size of a thumbnail, with a tokenizer and a chat template."""

import json
import os
import signal
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
