"""The command download: whole outputs from files or from the hub, or one line that says what is wrong."""

import gzip
import json

import download
import pytest
import toy_data
from hub_server import COMMIT, Repo, last_line, serving

from hps.data.schemas import PAIRS
from hps.data.splits import SPLITS
from hps.support import files
from hps.support.errors import InputError

HH = "hh-rlhf/harmless-base"
SIZES = {"test": 8, "reward": 20, "eval_reward": 20, "sft": 10, "train": 12}
WANTED = {f"{name}_prompts": size for name, size in SIZES.items()} | {"test_from": "test"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy_data.main(toy_data.Arguments(rows_train=120, rows_test=50, out=str(folder)))
    return folder


def arguments(out, **changes):
    return download.Arguments(**({"dataset": "toy", "format": "hh_rlhf", "out": str(out)} | WANTED | changes))


def from_files(toy, folder=HH):
    return {f"{part}_files": [str(toy / folder / f"{part}.jsonl.gz")] for part in ("train", "test")}


def read_splits(out):
    return {name: files.read_table(out / f"{name}.parquet", PAIRS.names) for name in SPLITS}


def test_the_splits_and_the_counts_are_written(toy, tmp_path):
    out = tmp_path / "out"
    download.main(arguments(out, seed=3, **from_files(toy)))
    splits = read_splits(out)
    assert {name: len(rows) for name, rows in splits.items()} == SIZES
    ids = [row["prompt_id"] for rows in splits.values() for row in rows]
    assert len(set(ids)) == 70
    assert all(row["messages"][-1]["role"] == "user" and row["chosen"] for rows in splits.values() for row in rows)
    counts = files.read_json(out / "counts.json")
    assert counts["seed"] == 3
    assert counts["splits"]["test"] == {"part": "test", "prompts": 8}
    train = counts["parts"]["train"]
    path = from_files(toy)["train_files"][0]
    assert train["sources"] == [{"path": path, "sha256": files.sha256(path), "rows": 120}]
    assert train["rows"]["rows"] == 120
    assert train["rows"]["kept"] == 116 == train["prompts"]["comparisons"]
    assert train["prompts"]["left out: prompt seen before"] == 3


def test_several_files_are_one_part(toy, tmp_path):
    paths = from_files(toy)
    download.main(arguments(tmp_path / "out", train_files=paths["train_files"] * 2, test_files=paths["test_files"]))
    train = files.read_json(tmp_path / "out" / "counts.json")["parts"]["train"]
    assert [source["rows"] for source in train["sources"]] == [120, 120]
    assert train["rows"]["dropped: prompts differ"] == 4
    assert train["prompts"]["left out: prompt seen before"] == 3 + 116


def test_a_part_no_split_draws_from_is_not_needed(toy, tmp_path):
    everything_from_test = {f"{name}_from": "test" for name in SPLITS}
    paths = {"test_files": from_files(toy, "pku-saferlhf")["test_files"]}
    download.main(
        arguments(
            tmp_path / "out", format="pku_saferlhf", label="safer_response_id",
            reward_prompts=4, eval_reward_prompts=4, sft_prompts=0, train_prompts=-1,
            **everything_from_test, **paths,
        )
    )  # fmt: skip
    counts = files.read_json(tmp_path / "out" / "counts.json")
    assert list(counts["parts"]) == ["test"]
    assert counts["label"] == "safer_response_id"
    assert counts["splits"]["sft"]["prompts"] == 0
    assert counts["splits"]["train"]["prompts"] == counts["parts"]["test"]["prompts"]["prompts"] - 16


def hub_words(out, repo="owner/pairs", format="hh_rlhf", part="train", file="data/train.jsonl.gz"):
    sizes = ["--test-prompts", 8, "--test-from", part, "--train-prompts", 12, "--train-from", part]
    return ["--dataset", "toy", "--format", format, "--hub", repo, f"--hub-{part}-files", file, *sizes, "--out", out]


@pytest.fixture(scope="module")
def hub(toy):
    questions = [[{"role": "user", "content": f"Question {i}?"}] for i in range(30)]
    rows = [{"prompt": question, "responses": ["Yes.", "No."]} for question in questions]
    repos = {
        "owner/pairs": Repo.of(toy / "hh-rlhf", kind="dataset"),
        "owner/prompts": Repo({"online.json": json.dumps(rows).encode()}, kind="dataset"),
        "owner/wrong": Repo({"train.jsonl": b'{"chosen": "\\n\\nHuman: a"}\n'}, kind="dataset"),
        "owner/tampered": Repo.of(toy / "hh-rlhf", kind="dataset", sent={"harmless-base/train.jsonl.gz": b"x"}),
        "owner/gated": Repo({"train.jsonl": b"{}"}, kind="dataset", gated=True),
    }
    with serving(repos) as server:
        yield server


def test_the_hub_gives_the_same_splits_as_the_files(toy, hub, tmp_path):
    download.main(arguments(tmp_path / "files", **from_files(toy)))
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in WANTED.items()]
    names = ["--hub-train-files", "*/train.jsonl.gz", "--hub-test-files", "harmless-base/test.jsonl.gz"]
    words = ["--dataset", "toy", "--format", "hh_rlhf", "--hub", "owner/pairs", *names, *sizes]
    done = hub.run("download.py", *words, "--out", tmp_path / "hub", cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert read_splits(tmp_path / "hub") == read_splits(tmp_path / "files")
    ours, theirs = (files.read_json(tmp_path / name / "counts.json")["parts"] for name in ("hub", "files"))
    assert ours["train"]["rows"] == theirs["train"]["rows"]
    assert ours["train"]["sources"] == [
        {"hub": "owner/pairs", "commit": COMMIT, "file": "harmless-base/train.jsonl.gz", "listed_by": "the hub"}
        | {"sha256": theirs["train"]["sources"][0]["sha256"], "rows": 120}
    ]
    assert {path.name for path in tmp_path.iterdir()} <= {"files", "hub", "cache"}


def test_a_prompt_set_in_one_file_gives_test_and_training_prompts(hub, tmp_path):
    words = hub_words(tmp_path / "out", "owner/prompts", "prompt_responses", file="online.json")
    done = hub.run("download.py", *words, "--label", "second", cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    splits = read_splits(tmp_path / "out")
    assert (len(splits["test"]), len(splits["train"])) == (8, 12)
    assert all(row["chosen"].startswith("No") for row in splits["train"])


@pytest.mark.parametrize(
    ("repo", "file", "what"),
    [
        ("owner/wrong", "train.jsonl", "owner/wrong/train.jsonl:1: has no field rejected"),
        ("owner/pairs", "harmless-base/train.json", "owner/pairs: holds no harmless-base/train.json at commit c0ffee"),
        ("owner/tampered", "*/train.jsonl.gz", "owner/tampered: harmless-base/train.jsonl.gz: has 1 bytes where"),
        ("owner/none", "x.json", "owner/none: no such dataset repository, or a private one"),
        (
            "owner/gated",
            "train.jsonl",
            "owner/gated: a gated repository: accept the licence at https://huggingface.co/datas",
        ),
    ],
)
def test_what_the_hub_does_not_give_is_one_line_and_leaves_nothing(hub, tmp_path, repo, file, what):
    done = hub.run("download.py", *hub_words(tmp_path / "out", repo, file=file), cache=tmp_path / "cache")
    assert last_line(done).startswith(f"error: {what}")
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_pinned_data_are_taken_at_their_commit(hub, toy, tmp_path):
    lock, file = tmp_path / "hub.lock.yaml", "harmless-base/train.jsonl.gz"
    wanted = [{"kind": "dataset", "repo": "owner/pairs", "revision": "", "patterns": [file]}]
    done = hub.run("pin.py", "--wanted", json.dumps(wanted), "--lock", lock, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    hub.asked.clear()
    words = hub_words(tmp_path / "out", file=file)
    done = hub.run("download.py", *words, "--lock", lock, cache=tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    assert "/api/datasets/owner/pairs" not in [path for path, _ in hub.asked]
    source = files.read_json(tmp_path / "out" / "counts.json")["parts"]["train"]["sources"][0]
    assert (source["commit"], source["listed_by"]) == (COMMIT, str(lock))

    words = hub_words(tmp_path / "other", part="test", file="harmless-base/test.jsonl.gz")
    line = last_line(hub.run("download.py", *words, "--lock", lock, cache=tmp_path / "cache"))
    assert line.endswith(f"{lock}: owner/pairs: names no harmless-base/test.jsonl.gz; `snakemake pin` adds it")


def damaged(toy, tmp_path, how):
    data = gzip.decompress((toy / HH / "train.jsonl.gz").read_bytes()).splitlines(keepends=True)
    path = tmp_path / "train.jsonl.gz"
    if how == "truncated":
        path.write_bytes(gzip.compress(b"".join(data))[:-100])
    else:
        row = json.loads(data[99])
        del row["rejected"]
        data[99] = json.dumps(row).encode() + b"\n"
        path.write_bytes(gzip.compress(b"".join(data)))
    return str(path)


@pytest.mark.parametrize(
    ("how", "what"), [("truncated", r":\d+: .*truncated"), ("field", ":100: has no field rejected")]
)
def test_nothing_is_written_when_a_file_is_damaged(toy, tmp_path, how, what):
    path = damaged(toy, tmp_path, how)
    out = tmp_path / "results" / "out"
    with pytest.raises(InputError, match=f"{path}{what}"):
        download.main(arguments(out, **(from_files(toy) | {"train_files": [path]})))
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "where 0 are left for it (rows: 0, comparisons: 0, prompts: 0, in other splits: 0)"),
        (
            b'{"chosen": "\\n\\nHuman: a\\n\\nAssistant: b", "rejected": "\\n\\nHuman: c\\n\\nAssistant: d"}\n' * 3
            + b'{"chosen": "a", "rejected": "b"}\n',
            "where 0 are left for it (rows: 4, dropped: does not start with Human's turn: 1, "
            "dropped: prompts differ: 3, comparisons: 0, prompts: 0, in other splits: 0)",
        ),
        (
            b'{"chosen": "\\n\\nHuman: a\\n\\nAssistant: b", "rejected": "\\n\\nHuman: a\\n\\nAssistant: d"}\n' * 3,
            "where 1 are left for it (rows: 3, kept: 3, comparisons: 3, left out: prompt seen before: 2, prompts: 1, "
            "in other splits: 0)",
        ),
    ],
)
def test_too_few_prompts_are_explained_by_what_was_dropped_and_why(tmp_path, content, why):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    given = {"test_prompts": 0, "reward_prompts": 8, "train_files": [str(path)]}
    with pytest.raises(InputError) as caught:
        download.main(arguments(tmp_path / "out", **given))
    assert (
        str(caught.value)
        == f"data.splits.reward.prompts (--reward-prompts): asks for 8 prompts of the train files, {why}"
    )
    assert not (tmp_path / "out").exists()


def test_the_output_of_before_stays_when_a_run_fails(toy, tmp_path):
    out = tmp_path / "out"
    download.main(arguments(out, **from_files(toy)))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match=r"data\.splits\.train\.prompts \(--train-prompts\): asks for 5000"):
        download.main(arguments(out, train_prompts=5000, **from_files(toy)))
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, "--train-files: toy needs files, or a hub repository"),
        ({"train_files": ["x"], "hub": "y"}, "--train-files: toy needs either files or a hub repository, not both"),
        ({"train_files": ["no/such/file"], "test_files": ["x"]}, "no/such/file: no such file"),
        ({"hub": "y"}, "--hub-train-files: toy needs some"),
        ({"train_prompts": -2}, "--train-prompts: must be a number of prompts"),
        ({"label": "better_response_id"}, "label: hh_rlhf says which reply is chosen"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, changes, what):
    with pytest.raises(InputError, match=what):
        download.main(arguments(tmp_path / "out", **changes))
    assert list(tmp_path.iterdir()) == []
