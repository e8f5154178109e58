"""What comes from outside is valid or one line, whatever its bytes: data files, ratings, keys, replies, YAML."""

import copy
import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hps.data.formats import FORMATS, parser
from hps.data.records import Comparison, read, read_rows
from hps.judge.cache import Answer, Cache
from hps.judge.client import Client, Endpoint, Limits, UnusableAnswer
from hps.judge.prompt import CRITERIA, MalformedReply, read_reply
from hps.models import hub_lock
from hps.support.errors import InputError
from hps.support.files import parse_json
from hps.support.yaml_file import read_yaml
from hps.user_study.design import Key, StudyItem, design, read_key
from hps.user_study.ratings import Ratings, read_ratings, simulate
from hps.workflow import config
from hps.workflow.pipeline import Pipeline

FAST = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
# What readers stumble over: ends of things, other encodings, numbers and nesting beyond bounds, halves of pairs.
TOKENS = [
    b"\0", b"\n", b"\r", b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"-", b"*", b"&a ", b"*a", b"<<: ", b"!!x/",
    b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b"NaN", b"Infinity", b"1e999", b"null", b"true", b"5.0",
    b"9" * 400, b"9" * 5000, b"[" * 99_999, b'{"a":' * 3000, b"../", b"<think>", b"</think>", b"1:60", b"2001-99-99",
]  # fmt: skip
NOISE = st.binary(max_size=40) | st.sampled_from(TOKENS) | st.text(max_size=20).map(lambda text: text.encode())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=15,
)


def changed(*contents: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes; or one of `contents` with pieces of it cut out, doubled or replaced by noise."""

    @st.composite
    def spliced(draw) -> bytes:
        content = draw(st.sampled_from(contents))
        for _ in range(draw(st.integers(0, 4))):
            start = draw(st.integers(0, len(content)))
            end = min(len(content), start + draw(st.integers(0, 30)))
            content = content[:start] + draw(NOISE | st.just(content[start:end] * 2)) + content[end:]
        return content

    return st.binary(max_size=200) | spliced() | JSON.map(lambda value: json.dumps(value).encode())


def outcome(read: Callable[[], object], refusal: type[Exception] = InputError) -> object:
    """What `read` gives; None for a refusal, which must be one line."""
    try:
        return read()
    except refusal as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    return None


def rows(*values: dict) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
HH = {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: Human: c"}
PKU = {"prompt": "a", "response_0": "b", "response_1": "ü", "better_response_id": 1, "safer_response_id": 0}
CHAT = {"prompt": None, "chosen": TURNS, "rejected": [TURNS[0], TURNS[1] | {"content": "d"}]}
PAIR = {"prompt": TURNS[:1], "responses": ["a", "b"]}


def table(row: dict) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, row)
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue().encode()


def parquet(row: dict) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row]), stream)
    return stream.getvalue()


FILES = {
    ".jsonl": rows(HH, PKU, CHAT, PAIR),
    ".json": json.dumps([PKU, HH]).encode(),
    ".jsonl.gz": gzip.compress(rows(HH, PKU)),
    ".csv": table(PKU),
    ".parquet": parquet(PKU),
}


def check(records: list[Comparison]) -> None:
    """What the later stages need of a record."""
    for record in records:
        texts = [record.chosen, record.rejected, *(turn["content"] for turn in record.messages)]
        assert all(isinstance(text, str) and text.encode() is not None for text in texts)
        assert record.chosen
        assert record.rejected
        assert record.chosen != record.rejected
        assert record.messages[-1]["role"] == "user"
        assert len(record.prompt_id) == 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("outside")


LABELS = {"prompt_responses": "first"}


@pytest.mark.parametrize("suffix", FILES)
@FAST
@given(st.data())
def test_a_data_file(folder, suffix, data):
    path = folder / f"file{suffix}"
    path.write_bytes(data.draw(changed(FILES[suffix])))
    of_file = outcome(lambda: list(read_rows(path)))
    for name in FORMATS if of_file is not None else ():
        read_whole = outcome(lambda name=name: read(of_file, parser(name, LABELS.get(name, ""))))
        if read_whole is not None:
            records, counts = read_whole
            check(records)
            assert counts["rows"] == counts["kept"] + sum(n for what, n in counts.items() if what.startswith("dropped"))


FIELDS = [*PKU, *HH, *PAIR, "role", "content"]
ROW = st.dictionaries(st.sampled_from(FIELDS), JSON | st.sampled_from([0, 1, "a", HH["chosen"], TURNS]), max_size=6)


@pytest.mark.parametrize("name", FORMATS)
@FAST
@given(ROW | st.sampled_from([HH, PKU, CHAT, PAIR]).flatmap(lambda row: ROW.map(lambda other: row | other)))
def test_a_row(name, row):
    record = outcome(lambda: parser(name, LABELS.get(name, ""))(row, "f:1", Counter()))
    if record is not None and not any("\ud800" <= character <= "\udfff" for character in str(row)):
        check([record])


KEY, _ = design(
    [StudyItem("hh_rlhf", "p0", TURNS[:1], {"sft": "a", "dpo-hps": "b"})], ["sft", "dpo-hps"], raters=2, seed=0
)
RATED = simulate(KEY, {("hh_rlhf", "p0", method): 1.0 for method in KEY.methods}, seed=0)["rater-01"]


@FAST
@given(changed(json.dumps(RATED).encode()))
def test_a_returned_file(folder, content):
    path = folder / "ratings.json"
    path.write_bytes(content)
    ratings = outcome(lambda: read_ratings([path], KEY))
    if ratings is not None:
        assert isinstance(ratings, Ratings)
        given_scores = ratings.values[ratings.values == ratings.values]
        assert ((given_scores >= 1) & (given_scores <= 5)).all()


@FAST
@given(changed(json.dumps(KEY.as_json()).encode()))
def test_a_key(folder, content):
    path = folder / "key.json"
    path.write_bytes(content)
    key = outcome(lambda: read_key(path))
    if key is not None:
        assert isinstance(key, Key)
        assert all(
            set(item["responses"].values()) <= set(key.methods) for r in key.raters.values() for item in r.values()
        )


REPLY = json.dumps({name: dict.fromkeys(CRITERIA, 4.5) for name in ("response_a", "response_b")}).encode()


@FAST
@given(changed(REPLY, b"<think>" + REPLY + b"</think>" + REPLY))
def test_a_judges_reply(content):
    scores = outcome(lambda: read_reply(content.decode(errors="replace")), MalformedReply)
    if scores is not None:
        assert all(0 <= value <= 5 and (2 * value).is_integer() for own in scores for value in own.values())


@pytest.fixture(scope="module")
def client(folder) -> Client:
    return Client(
        Endpoint("http://localhost/v1", "judge", "none"), Cache(folder / "cache"), Limits(1, 1.0, 0, 9, 0.0, 9)
    )


MESSAGE = {"role": "assistant", "content": "a", "reasoning_content": "b"}
BODY = {"choices": [{"message": MESSAGE, "finish_reason": "stop"}], "usage": {"total_tokens": 7}}


@FAST
@given(changed(json.dumps(BODY).encode(), json.dumps(BODY | {"usage": None}).encode()))
def test_a_servers_reply_can_be_kept_and_read_again(client, content):
    answer = outcome(lambda: client._read(content), UnusableAnswer)
    if answer is not None:
        assert isinstance(answer, Answer)
        client.cache.put({"model": "judge"}, answer)
        assert client.cache.get({"model": "judge"}) == answer


LOCK = yaml.safe_dump(
    {"model": {"o/m": {"commit": "c" * 40, "revision": "", "files": {"a.json": {"size": 3, "blob": "ab" * 20}}}}}
)


@FAST
@given(changed(LOCK.encode()))
def test_a_lock_file(folder, content):
    path = folder / "lock.yaml"
    path.write_bytes(content)
    lock = outcome(lambda: hub_lock.read(path))
    for snapshot in (lock or {}).values():
        assert all((folder / name).resolve().is_relative_to(folder.resolve()) for name in snapshot.files)


@FAST
@given(changed((ROOT / "config.yaml").read_bytes()[:1500], LOCK.encode()))
def test_a_configuration_file(folder, content):
    path = folder / "config.yaml"
    path.write_bytes(content)
    assert isinstance(outcome(lambda: read_yaml(path)), dict | None)


BASE = read_yaml(ROOT / "config.yaml")
RESOLVED = config.load(ROOT, BASE).values
KEYS = [(section,) for section in RESOLVED]
KEYS += [(section, key) for section, value in RESOLVED.items() if isinstance(value, dict) for key in value]
VALUES = st.sampled_from(
    ["../x", "x\0", "x" * 2000, "1e2", "nan", "inf", "all", [None], [[]], ["dpo"] * 2, [1e400], {}]
)


@FAST
@given(st.lists(st.tuples(st.sampled_from(KEYS), JSON | VALUES), min_size=1, max_size=2))
def test_a_configuration(changes):
    """Any value of any key, as the command line may give it: a configuration with its runs, or one line."""
    given_values = copy.deepcopy(BASE)
    for (section, *rest), value in changes:
        if rest:
            inner = given_values.get(section)
            given_values[section] = (inner if isinstance(inner, dict) else {}) | {rest[0]: value}
        else:
            given_values[section] = value
    assert isinstance(outcome(lambda: Pipeline(config.load(ROOT, given_values))), Pipeline | None)


@FAST
@given(JSON)
def test_json_that_is_valid_is_read_as_it_is(value):
    text = json.dumps(value)
    read_back = outcome(lambda: parse_json(text.encode(), "f"))
    if read_back is None and value is not None:  # only for what no file can hold
        assert "NaN" in text or "Infinity" in text or "\\ud" in text
    else:
        assert read_back == value
