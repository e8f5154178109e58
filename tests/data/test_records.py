"""Reading JSON lines: what is wrong with a file is said with its row and field."""

import gzip
import json

import datasets
import pytest

from hps.data import parser
from hps.data.records import prompt_id, read, read_rows
from hps.support.errors import InputError

ROWS = [{"n": i, "text": "x" * 50} for i in range(200)]


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_rows_are_numbered_from_one(tmp_path):
    for name, data in (("a.jsonl.gz", gzip.compress(lines(ROWS))), ("a.jsonl", lines(ROWS))):
        path = tmp_path / name
        path.write_bytes(data)
        assert list(read_rows(path)) == [(f"{path}:{i + 1}", row) for i, row in enumerate(ROWS)]


@pytest.mark.parametrize(
    ("name", "data", "where", "what"),
    [
        ("b.jsonl.gz", gzip.compress(lines(ROWS))[:-30], r":\d+", "truncated"),
        ("b.jsonl.gz", gzip.compress(lines(ROWS))[:60] + b"\0" * 60, r":\d+", "corrupt"),
        ("b.jsonl.gz", lines(ROWS), ":1", "corrupt"),
        ("b.jsonl", lines(ROWS[:2]) + b'{"n": \n', ":3", "not valid JSON"),
        ("b.jsonl", lines(ROWS[:2]) + b"[1]\n", ":3", "expected a JSON object, found list"),
        ("b.jsonl", lines(ROWS[:1]) + b'{"text": "\xff"}\n', ":2", "not valid JSON"),
    ],
)
def test_a_damaged_file_is_named_with_its_row(tmp_path, name, data, where, what):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=f"{path}{where}: .*{what}"):
        list(read_rows(path))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_tables_are_read_like_json(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    getattr(datasets.Dataset.from_list(ROWS), f"to_{suffix}")(path)
    assert list(read_rows(path)) == [(f"{path}:{i + 1}", row) for i, row in enumerate(ROWS)]


def test_a_damaged_table_is_named(tmp_path):
    path = tmp_path / "b.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match=f"{path}:1: cannot be read"):
        list(read_rows(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read \(No such file"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_half_a_surrogate_pair_is_refused():
    row = json.loads('{"chosen": "\\ud800", "rejected": ""}')
    with pytest.raises(InputError, match=r"f:1: field chosen: .*surrogate"):
        read([("f:1", row)], parser("hh_rlhf"))


def test_prompt_id_is_a_hash_of_the_canonical_messages():
    messages = [{"role": "user", "content": "hi"}]
    # printf '[{"content":"hi","role":"user"}]' | sha256sum
    assert prompt_id(messages) == "4e79873118cd9be7"
    assert prompt_id([{"content": "hi", "role": "user"}]) == prompt_id(messages)
    assert prompt_id([{"role": "user", "content": "hi "}]) != prompt_id(messages)


@pytest.mark.parametrize(
    ("format", "label", "what"),
    [
        ("csv", "", "format: 'csv' is none of hh_rlhf, pku_saferlhf"),
        ("pku_saferlhf", "best", "label: 'best' is none of better_response_id, safer_response_id"),
        ("hh_rlhf", "better_response_id", "label: hh_rlhf says which reply is chosen"),
    ],
)
def test_unknown_formats_and_labels_are_refused(format, label, what):
    with pytest.raises(InputError, match=what):
        parser(format, label)
