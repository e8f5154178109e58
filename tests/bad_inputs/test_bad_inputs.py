"""Bad inputs of every kind: an exit code, one line that names file and field, and results that nobody has touched.

Each case is a real call: of a command in a folder of good inputs with one thing changed, or of `snakemake all` in a
copy of the workflow. They are forked from processes that have imported already, so that all of them take a minute.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import judge_files
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import stage_files
import synthetic_results
from conftest import ROOT, SCRIPTS, python_environment, without_hashes
from safetensors.torch import load_file, save_file

from hps.data.schemas import CANDIDATES
from hps.models import reward_training, sources
from hps.runs import Run
from hps.support import provenance, warm
from hps.support.files import identity, read_table, write_json, write_table
from hps.user_study.design import StudyItem, design
from hps.user_study.ratings import simulate
from hps.workflow import jobs

pytestmark = pytest.mark.workflow

ENVIRONMENT = python_environment(HPS_DATA_DIR="", HPS_JUDGE_URL="", HPS_JUDGE_MODEL="", HPS_JUDGE_KEY="")
SNAKEMAKE = "import sys; from snakemake.cli import main; main(sys.argv[1:])"
QUERY = "model.layers.1.self_attn.q_proj.weight"
BOMB = "a: &a [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{below}'] * 10)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HH = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"}
TRAINING = (
    "--dataset hh_rlhf --parameterization dpo --loss hps --n 4 --beta 0.1 --seed 0 --multiplicity n_minus_1 "
    "--gamma-levels -5 0 5 --gamma-follows step --truncated drop --adapter lora --epochs 2 --learning-rate 0.01 "
    "--weight-decay 0 --max-grad-norm 1 --batch-size 2 --max-length 512 --checkpoint-every 5 --train-tokens 4096 "
    "--policy policy --examples examples --checkpoints results/work --out-policy results/policy "
    "--out-log results/log.jsonl --out-summary results/training.json"
)
POLICY = json.dumps(
    {
        "seed": 0,
        "test_sets": ["hh_rlhf"],
        "trained": "run/policy",
        "training": "run/training.json",
        "out": "results/out",
    },
    separators=(",", ":"),
)
COMMANDS = {
    "download": "--dataset d --format hh_rlhf --train-files train.jsonl --test-files test.jsonl --train-prompts 1 "
    "--test-prompts 1 --out results/data",
    "fetch_model": "--role policy --source path --path given --out results/policy",
    "augment": "--pairs pairs.parquet --generator policy --shard 1-of-1 --n 2 --temperature 1 --top-p 1 --seed 0 "
    "--max-new-tokens 4 --sequences 8 --dtype float32 --generation transformers --tensor-parallel 1 "
    "--out results/out.parquet --stats results/stats.json",
    "annotate": "--pairs pairs.parquet --candidates candidates.parquet --reward-model reward --reward-output gated "
    "--reward-system-turn keep --score-tokens 512 --out results/out.parquet",
    "reference": "--pairs pairs.parquet --candidates candidates.parquet --policy policy --dtype float32 "
    "--score-tokens 512 --out results/out.parquet --out-prompts results/prompts.parquet",
    "examples": "--pairs pairs.parquet --candidates candidates.parquet --scored scored.parquet "
    "--reference reference.parquet --prompts prompts.parquet --out results/examples",
    "train": TRAINING,
    "evaluate": "--test-sets hh_rlhf --pairs pairs.parquet --examples examples --policy policy --eval-reward reward "
    f"--samples 2 --temperature 1 --max-new-tokens 4 --sequences 8 --score-tokens 512 --dtype float32 "
    f"--policies {POLICY} --pick per_metric --bleu-reference chosen --truncated keep "
    "--reward-output gated --reward-system-turn keep",
    "report table": "--name table2 --config config.json --evaluations first second --out results",
    "report table3": "--name table3 --config config.json --key key.json --ratings returned.json --out results",
    "report curves": "--config config.json --trainings run --dataset hh_rlhf --out results",
    "report claims": "--config config.json --evaluations first second --tables theory.csv "
    f"--paper {ROOT / 'paper'} --out results",
    "judge": "--source openai --test-sets hh_rlhf --pairs judged/test.parquet --methods judged/hps "
    "--baselines judged/sft --cache results/cache --out results/judge --retries 0 --timeout 2 --concurrency 1",
}
"""By command, its words in a folder of good inputs."""


@dataclass(frozen=True)
class Case:
    """A change to the good inputs, and the line that it must end in (a regular expression)."""

    command: str
    change: Callable[[Path], object] | None
    line: str
    words: str = ""  # more of them
    environment: tuple[tuple[str, str], ...] = ()


# --- changes ----------------------------------------------------------------------------------------------------------


def text(name: str, content: str | bytes) -> Callable[[Path], object]:
    content = content if isinstance(content, bytes) else content.encode()
    return lambda folder: (folder / name).write_bytes(content)


def gone(name: str) -> Callable[[Path], object]:
    return lambda folder: shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()


def pipe(name: str) -> Callable[[Path], object]:
    return lambda folder: [gone(name)(folder), os.mkfifo(folder / name)]


def copied(source: str, target: str) -> Callable[[Path], object]:
    return lambda folder: shutil.copy(folder / source, folder / target)


def half(name: str) -> Callable[[Path], object]:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


def flipped(name: str) -> Callable[[Path], object]:
    """A bit of the middle of a file's first page."""

    def flip(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[60] ^= 4
        (folder / name).write_bytes(content)

    return flip


def tensors(name: str, change: Callable[[dict], object]) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        found = load_file(folder / name / "model.safetensors")
        change(found)
        save_file(found, folder / name / "model.safetensors", {"format": "pt"})
        if (folder / name / "model.json").exists():
            without_hashes(folder / name)

    return changed


def configured(name: str, **changes: object) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        path = folder / name / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
        if (folder / name / "model.json").exists():
            without_hashes(folder / name)

    return changed


def rows(name: str, change: Callable[[list[dict]], list[dict]]) -> Callable[[Path], object]:
    """Another tool's file of the same columns, which keeps what the stage says of itself."""

    def changed(folder: Path) -> None:
        table = pq.read_table(folder / name)
        pq.write_table(pa.Table.from_pylist(change(table.to_pylist()), table.schema), folder / name)

    return changed


def fewer(folder: Path) -> None:
    """Candidates of other prompts, as if a stage had written them."""
    kept = [row for row in read_table(folder / "candidates.parquet") if row["prompt_id"] != f"{1:016x}"]
    made_from = {"pairs": identity(folder / "pairs.parquet")}
    write_table(folder / "candidates.parquet", kept, CANDIDATES, made_from)


def nan(found: dict) -> None:
    found[QUERY][3, 5] = float("nan")


def renamed(found: dict) -> None:
    for name in list(found):
        found[f"other.{name}"] = found.pop(name)


DEEP = "[" * 100_000
DIGITS = "9" * 5000
ENDPOINT = (("HPS_JUDGE_URL", "http://127.0.0.1:9/v1"), ("HPS_JUDGE_MODEL", "m"), ("HPS_JUDGE_KEY", "secret-key"))


def endpoint(**changes: str) -> tuple[tuple[str, str], ...]:
    return tuple((dict(ENDPOINT) | {f"HPS_JUDGE_{name.upper()}": value for name, value in changes.items()}).items())


CASES = [
    # data files
    Case("download", gone("train.jsonl"), r"train\.jsonl: .*no such file"),
    Case("download", pipe("train.jsonl"), r"train\.jsonl: .*no such file"),
    Case("download", text("train.jsonl", ""), r"data\.splits\.test\.prompts .* 0 are left .*rows: 0"),
    Case("download", text("train.jsonl", "{"), r"train\.jsonl:1: not valid JSON"),
    Case("download", text("train.jsonl", DEEP), r"train\.jsonl:1: not valid JSON \(nested"),
    Case("download", text("train.jsonl", f'{{"chosen": {DIGITS}}}'), r"train\.jsonl:1: not valid JSON \(the number"),
    Case("download", text("train.jsonl", '{"chosen": NaN}'), r"train\.jsonl:1: not valid JSON \(NaN"),
    Case("download", text("train.jsonl", '{"chosen": "\\ud800"}'), r"train\.jsonl:1: not valid JSON \(chosen holds"),
    Case("download", text("train.jsonl", b'{"chosen": "caf\xe9"}'), r"train\.jsonl:1: not valid JSON \(not UTF-8"),
    Case("download", text("train.jsonl", '{"chosen": "a", "chosen": "b"}'), r"train\.jsonl:1: .*'chosen' stands twice"),
    Case("download", text("train.jsonl", '{"chosen": 4, "rejected": 5}'), r"train\.jsonl:1: .*chosen"),
    Case("download", text("train.jsonl", '{"prompt": "a"}'), r"train\.jsonl:1: .*chosen"),
    Case("download", text("train.jsonl", json.dumps(HH | {"rejected": HH["chosen"]})), r"train.*: .*dropped"),
    # a model enters
    Case("fetch_model", gone("given"), r"given: there is no such model folder"),
    Case("fetch_model", pipe("given/model.safetensors"), r"given/model\.safetensors.* special file"),
    Case("fetch_model", tensors("given", lambda found: found.pop(QUERY)), rf"given.*1 missing \({QUERY}\)"),
    Case("fetch_model", tensors("given", renamed), r"given.*21 missing"),
    Case("fetch_model", tensors("given", nan), rf"given/model\.safetensors: tensor {QUERY} holds values that are not"),
    Case("fetch_model", configured("given", num_hidden_layers=1), r"given.*unexpected"),
    Case("fetch_model", configured("given", intermediate_size=48), r"given.*of another size"),
    Case("fetch_model", configured("given", model_type="nothing"), r"given.*transformers cannot load the model"),
    Case("fetch_model", text("given/config.json", "{"), r"given.*transformers cannot load the model"),
    Case("fetch_model", text("given/tokenizer.json", ""), r"given.*transformers cannot load the tokenizer"),
    Case("fetch_model", text("given/chat_template.jinja", "{% for %}"), r"given: the chat template refuses the turns"),
    Case("fetch_model", None, r"lora_targets: .*nope", words="--lora-targets q_proj nope"),
    Case("fetch_model", half("given/model.safetensors"), r"given/model\.safetensors"),
    # sampling
    Case("augment", tensors("policy", nan), r"policy: its logits are not finite"),
    Case("augment", None, r"temperature: 1e-40 is too small", words="--temperature 1e-40"),
    Case("augment", configured("policy", max_position_embeddings=8), r"policy: the longest prompt .* model has 8"),
    Case("augment", flipped("pairs.parquet"), r"pairs\.parquet: "),
    Case("augment", half("pairs.parquet"), r"pairs\.parquet: not a readable Parquet file"),
    Case("augment", pipe("pairs.parquet"), r"pairs\.parquet: is not a file"),
    Case("augment", copied("candidates.parquet", "pairs.parquet"), r"pairs\.parquet: has no column"),
    # stages that read each other's files
    Case("annotate", None, r"nowhere: there is no such model folder", words="--reward-model nowhere"),
    Case("annotate", rows("candidates.parquet", lambda rows: rows[: len(rows) // 2]), r"candidates\.parquet: column"),
    Case("annotate", tensors("reward", lambda found: found.pop(QUERY)), rf"reward.*1 missing \({QUERY}\)"),
    Case("reference", rows("candidates.parquet", lambda rows: [*rows, rows[-1]]), r"candidates\.parquet: column"),
    Case("reference", configured("policy", max_position_embeddings=8), r"policy"),
    Case("examples", fewer, r"scored\.parquet: was not made from candidates\.parquet as it is now"),
    Case("examples", copied("reference.parquet", "scored.parquet"), r"scored\.parquet: has no column reward"),
    Case("examples", flipped("scored.parquet"), r"scored\.parquet: "),
    Case("examples", gone("prompts.parquet"), r"prompts\.parquet: "),
    # training
    Case("train", gone("examples"), r"examples.*: "),
    Case("train", tensors("policy", nan), r"policy"),
    Case("train", None, r"lora_targets: .*nope", words="--lora-targets q_proj nope"),
    Case("train", None, r"step \d+", words="--learning-rate 1e30 --max-grad-norm 1e30 --checkpoints work"),
    # evaluation
    Case("evaluate", gone("run/policy"), r"run/policy: no such file or folder"),
    Case("evaluate", gone("run/training.json"), r"run/training\.json: cannot be read"),
    Case("evaluate", text("run/training.json", "{}"), r"run/training\.json: "),
    Case("evaluate", text("run/training.json", DEEP), r"run/training\.json: not valid JSON"),
    Case("evaluate", configured("run/policy", hidden_act="relu"), r"run/policy: is not the policy that"),
    Case("evaluate", half("examples/index.arrow"), r"examples/index\.arrow: "),
    # results
    Case("report table", gone("second/per_prompt.parquet"), r"second/per_prompt\.parquet: missing"),
    Case("report table", copied("first/per_prompt.parquet", "second/per_prompt.parquet"), r"second/.*written together"),
    Case("report table", text("second/evaluation.json", ""), r"second/evaluation\.json: not valid JSON"),
    Case("report table", gone("second"), r"second/evaluation\.json: missing"),
    Case("report table", None, r"table99: no such table", words="--name table99"),
    Case("report curves", text("run/log.jsonl", '{"step": 1, "lo'), r"run/log\.jsonl"),
    Case("report curves", text("run/log.jsonl", ""), r"run/log\.jsonl: is empty"),
    Case("report claims", text("theory.csv", ""), r"theory\.csv: is empty"),
    Case("report claims", text("theory.csv", "experiment,x\na"), r"theory\.csv: ends in the middle of a line"),
    Case("report claims", text("theory.csv", "a,a\n1,2\n"), r"theory\.csv: needs a header with each column once"),
    Case("report claims", gone("theory.csv"), r"theory\.csv: missing"),
    # people and judges
    Case("report table3", text("returned.json", DEEP), r"returned\.json: not valid JSON"),
    Case("report table3", text("returned.json", "{}"), r"returned\.json: "),
    Case("report table3", text("key.json", "{}"), r"key\.json: "),
    Case("report table3", text("key.json", '{"study": 1}'), r"key\.json: "),
    Case("judge", None, r"HPS_JUDGE_KEY", environment=endpoint(key="secret\rkey")),
    Case("judge", None, r"HPS_JUDGE_KEY", environment=endpoint(key="sécret-key")),
    Case("judge", None, r"HPS_JUDGE_URL", environment=endpoint(url="http://localhost:99999/v1")),
    Case("judge", None, r"HPS_JUDGE_URL", environment=endpoint(url="file:///etc/passwd")),
    Case("judge", None, r"judge at 127\.0\.0\.1: Connection error", environment=ENDPOINT),
    Case("judge", copied("judged/sft/samples.parquet", "judged/hps/samples.parquet"), r"hps/samples.*written together"),
]

LOCKED = f"model: {{o/m: {{commit: {'c' * 40}, revision: '', files: {{a.json: {{size: 3, blob: {'ab' * 20}}}}}}}}}\n"
LAYERS = [  # words after `snakemake all`, and the line
    (["--config", "training={epoch: 3}"], r"command line: training\.epoch: unknown key"),
    (["--config", "training={epochs: 1, epochs: 2}"], r"command line: training:1: key epochs stands twice"),
    (["--config", "name=a", "name=b"], r"command line: name stands twice in --config"),
    (["--config", "name=a", "--config", "data_seed=1"], r"command line: --config stands twice"),
    (["--config", "training={epochs: 1"], r"command line: training:2: is not YAML"),
    (["--config", "training={1: 2}"], r"command line: training:1: key 1 is no text"),
    (["--config", "training=5"], r"command line.*: training: 5 is not of type 'object'"),
    (["--config", "training={learning_rate: nan}"], r"command line: training\.learning_rate: nan is not a finite"),
    (["--config", "objective={beta: -1}"], r"command line: objective\.beta: -1 is less than"),
    (["--config", "objective={gamma_levels: [.inf]}"], r"command line: objective\.gamma_levels"),
    (["--config", "candidates={temperature: 1e999}"], r"command line: candidates\.temperature: inf is not a finite"),
    (["--config", "candidates={top_p: 0}"], r"command line: candidates\.top_p: 0 is "),
    (["--config", "training={epochs: 1.5}"], r"command line: training\.epochs: .*1\.5"),
    (["--config", "seeds=[-1]"], r"command line: seeds\.0: -1 is less than"),
    (["--config", "preset=../presets/tiny"], r"command line: preset: no preset"),
    (["--config", "name=../elsewhere"], r"command line: name: '\.\./elsewhere' does not match"),
    (["--config", "name=a;touch b"], r"command line: name: 'a;touch b' does not match"),
    (["--config", "preset=smollm2", "data_dir=/nowhere"], r"command line: data_dir: no folder /nowhere"),
    (["--config", "models={policy: {source: path, path: /nowhere}}"], r"models\.policy\.path: no folder /nowhere"),
    (["--config", "training={lora_targets: []}"], r"command line: training\.lora_targets: "),
    (["--config", "user_study={ratings: empty}"], r"empty: holds no returned files"),
    (["--config", "user_study={ratings: shouting}"], r"shouting/RATINGS\.JSON: is no returned file"),
    (["--configfile", "twice.yaml"], r"twice\.yaml:3: key training stands twice"),
    (["--configfile", "number.yaml"], r"number\.yaml:1: key 1 is no text"),
    (["--configfile", "bomb.yaml"], r"bomb\.yaml:\d+: its aliases stand for too many values"),
    (["--configfile", "a.yaml", "--configfile", "b.yaml"], r"command line: --configfile stands twice"),
    (["--config", "judge={url_variable: my url}"], r"command line: judge\.url_variable: 'my url' does not match"),
]
OWN = [  # a file of the workflow, its content, and the line
    ("config.yaml", "preset: tiny\npreset: paper\n", r"config\.yaml:2: key preset stands twice"),
    ("config.yaml", b"name: caf\xe9\n", r"config\.yaml:1: is not UTF-8"),
    ("config.yaml", "seeds: [0\nname: a\n", r"config\.yaml:2: is not YAML"),
    ("config/presets/tiny.yaml", BOMB, r"config/presets/tiny\.yaml:\d+: its aliases stand for too many"),
    ("config/protocols/paper.yaml", "- 1\n", r"config/protocols/paper\.yaml: is not a mapping"),
    ("config/hub.lock.yaml", "model: {o/m: {commit: 1}}\n", r"config/hub\.lock\.yaml: "),
    ("config/hub.lock.yaml", LOCKED.replace("a.json", "../a.json"), r"config/hub\.lock\.yaml: "),
    ("config/hub.lock.yaml", LOCKED.replace("size: 3", "size: three"), r"config/hub\.lock\.yaml: "),
]
FILES = {
    "twice.yaml": "training: {epochs: 1}\nseeds: [0]\ntraining: {epochs: 2}\n",
    "number.yaml": "training: {1: 2}\n",
    "bomb.yaml": BOMB,
    "a.yaml": "data_seed: 1\n",
    "b.yaml": "data_seed: 2\n",
    "shouting/RATINGS.JSON": "{}",
    "empty/.keep": "",
}


# --- good inputs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(tmp_path_factory, model_folder) -> Path:
    """A folder with an input of every command."""
    folder = tmp_path_factory.mktemp("good")
    for name in ("policy", "given"):
        shutil.copytree(model_folder, folder / name)
    reward = reward_training.new_reward_model(model_folder, "float32", seed=1)
    sources.save(folder / "reward", reward, sources.load_tokenizer(model_folder), {"role": "reward"})
    stage_files.make(folder, model_folder, prompts=4)
    for name in ("train", "test"):
        (folder / f"{name}.jsonl").write_text(f"{json.dumps(HH)}\n")
    run = Run("hh_rlhf", "dpo", "hps", 4, 0.1, 0).record()
    synthetic_results.training(folder / "run", run, policy=provenance.fingerprint(model_folder))
    shutil.copytree(model_folder, folder / "run" / "policy")
    synthetic_results.configuration(folder)
    for name, method in (("first", "dpo-bt"), ("second", "dpo-hps")):
        synthetic_results.evaluation(folder / name, synthetic_results.run(method), [{"reward": 1.0 + len(name)}, {}])
    items = [StudyItem("hh_rlhf", "p0", [{"role": "user", "content": "q"}], {"sft": "a", "dpo-hps": "b"})]
    key, _ = design(items, ["sft", "dpo-hps"], raters=2, seed=0)
    write_json(folder / "key.json", key.as_json())
    rated = simulate(key, {("hh_rlhf", "p0", method): 1.0 for method in key.methods}, seed=0)
    write_json(folder / "returned.json", rated["rater-01"])
    (folder / "judged").mkdir()
    judge_files.command(folder / "judged", prompts=2)
    (folder / "theory.csv").write_text("experiment,quantity\na,1\n")
    (folder / "results").mkdir()
    (folder / "results/earlier.txt").write_text("of an earlier run")
    return folder


@pytest.fixture(scope="module")
def commands():
    """`python` for the project's commands, warm."""
    folder, process = jobs.start(SCRIPTS, warm.IMPORTS)
    words = [*jobs.client(folder), str(SCRIPTS / "toy_data.py"), "--help"]  # answered when all is imported
    subprocess.run(words, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
    yield jobs.client(folder)
    jobs.stop(folder, process)


@pytest.fixture(scope="module")
def snakemake(tmp_path_factory):
    """Snakemake, warm: what follows are the words of its command line."""
    scripts = tmp_path_factory.mktemp("scripts")
    (scripts / "snakemake.py").write_text(SNAKEMAKE)
    folder, process = jobs.start(scripts, ["snakemake.cli", "hps.workflow.config"])
    yield [*jobs.client(folder), str(scripts / "snakemake.py"), "--cores", "1", "all"]
    jobs.stop(folder, process)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "config.yaml", "rules", "config", "workflow_scripts", "envs", "report", "paper"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    for name, content in (FILES | {"results/earlier.txt": "of an earlier run"}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
    return folder


def state(folder: Path) -> dict[str, tuple[int, int]]:
    """Names, sizes and times of what lies in a folder."""
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def refused(words: list[str], folder: Path, line: str, **environment: str) -> None:
    """Call it: it must fail with this one line on its last row, and leave the results as they were."""
    before = state(folder / "results")
    done = subprocess.run(words, cwd=folder, env=ENVIRONMENT | environment, capture_output=True, text=True, timeout=60)
    said = (done.stdout + done.stderr).splitlines()
    assert done.returncode == 1, said
    assert re.match(f"error: .*{line}", said[-1]), said[-3:]
    assert sum(one.startswith("error: ") for one in said) == 1
    assert not any("Traceback" in one for one in said)
    assert "secret" not in "".join(said)
    assert state(folder / "results") == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.command}-{case.line}")
def test_a_command_refuses(good, commands, tmp_path, case):
    folder = tmp_path / "case"
    shutil.copytree(good, folder)
    if case.change:
        case.change(folder)
    script, _, part = case.command.partition(" ")
    words = [f"{SCRIPTS / script}.py", *([part.rstrip("3")] if part else []), *COMMANDS[case.command].split()]
    refused([*commands, *words, *case.words.split()], folder, case.line, **dict(case.environment))


@pytest.mark.parametrize(("words", "line"), LAYERS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_workflow_refuses(snakemake, checkout, words, line):
    refused([*snakemake, *words], checkout, line)


@pytest.mark.parametrize(("name", "content", "line"), OWN)
def test_the_workflow_refuses_its_own_files(snakemake, checkout, name, content, line):
    path = checkout / name
    before = path.read_bytes() if path.exists() else None
    try:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        refused(snakemake, checkout, line)
    finally:
        path.write_bytes(before) if before is not None else path.unlink()
