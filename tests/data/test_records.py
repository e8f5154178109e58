"""Reading JSON lines: what is wrong with a file is said with its row and field."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hps.data.formats import parser
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


def test_a_parquet_file_is_read_like_json(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=70)
    assert list(read_rows(path)) == [(f"{path}:{i + 1}", row) for i, row in enumerate(ROWS)]


def test_a_damaged_parquet_file_is_named(tmp_path):
    path = tmp_path / "b.parquet"
    path.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(InputError, match=f"{path}:1: cannot be read"):
        list(read_rows(path))


def test_a_cell_of_a_csv_file_is_text_whatever_it_looks_like(tmp_path):
    path = tmp_path / "a.csv"
    texts = ["None", "null", "4", "1e5", "NaN", "true", "2020-01-01", " ", 'a "quoted", one', "two\nlines"]
    quoted = ['"' + text.replace('"', '""') + '"' for text in texts]
    rows = "".join(f"Which?,{text},other,{i % 2}\n" for i, text in enumerate(quoted))
    path.write_text("prompt,response_0,response_1,better_response_id\n" + rows)
    read_back = list(read_rows(path))
    assert [row["response_0"] for _, row in read_back] == texts
    assert [source for source, _ in read_back] == [f"{path}:{i + 1}" for i in range(len(texts))]
    records, counts = read(read_back, parser("pku_saferlhf"))
    assert counts == {"rows": 10, "kept": 9, "dropped: empty rejected reply": 1}
    assert [(record.chosen, record.rejected) for record in records[:3]] == [
        ("None", "other"), ("other", "null"), ("4", "other"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", ": needs a header with each column once; it has none"),
        (b"a,a\n1,2\n", ": needs a header with each column once; it has a, a"),
        (b"a,b\n1,2\n1\n", ":2: has 1 cells where the header has 2"),
        (b"a,b\n1,2,3\n", ":1: has 3 cells where the header has 2"),
        (b'a,b\n1,"2\n', ":1: is no CSV (unexpected end of data)"),
        (b"a,b\n1,\xff\n", ": is not UTF-8 text"),
    ],
)
def test_a_damaged_csv_file_is_named(tmp_path, content, says):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(f"{path}{says}")


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("[" * 100_000, "nested more than 100 levels deep"),
        ("[" * 101 + "]" * 101, "nested more than 100 levels deep"),
        ("7" * 5000, "the number 77777777777777777777... (5000 characters) is too large"),
        ("-" + "7" * 400, "is too large"),
        ("1e999", "is too large"),
        ("NaN", "NaN is no JSON number"),
        ("-Infinity", "-Infinity is no JSON number"),
        ('"\\ud800"', "text holds half of a surrogate pair, which is not valid Unicode"),
        ('{"a": ["x", "\\udfff"]}', "text.a[1] holds half of a surrogate pair"),
        ('{"\\ud800": 1}', "half of a surrogate pair"),
        ('1, "text": 2', "'text' stands twice in one object"),
        ('"\xff"', "not UTF-8 text at byte 11"),
    ],
)
def test_json_that_is_none_is_one_line_with_file_and_row(tmp_path, field, what):
    line = f'{{"text": {field}}}\n'.encode("latin-1")
    for name, content, where in (("a.jsonl", b"{}\n" + line, ":2"), ("a.json", b"[" + line + b"]", "")):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputError) as caught:
            list(read_rows(path))
        assert str(caught.value).startswith(f"{path}{where}: not valid JSON (")
        assert what.replace("byte 11", "byte 1") in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read \(No such file"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_prompt_id_is_a_hash_of_the_canonical_messages():
    messages = [{"role": "user", "content": "hi"}]
    # printf '[{"content":"hi","role":"user"}]' | sha256sum
    assert prompt_id(messages) == "4e79873118cd9be7"
    assert prompt_id([{"content": "hi", "role": "user"}]) == prompt_id(messages)
    assert prompt_id([{"role": "user", "content": "hi "}]) != prompt_id(messages)


@pytest.mark.parametrize(
    ("format", "label", "what"),
    [
        ("csv", "", "format: 'csv' is none of chat_pairs, hh_rlhf, pku_saferlhf"),
        ("pku_saferlhf", "best", "label: 'best' is none of better_response_id, safer_response_id"),
        ("hh_rlhf", "better_response_id", "label: hh_rlhf says which reply is chosen"),
    ],
)
def test_unknown_formats_and_labels_are_refused(format, label, what):
    with pytest.raises(InputError, match=what):
        parser(format, label)
