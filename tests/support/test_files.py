"""Outputs are whole or absent; inputs that cannot be read are named."""

import subprocess
import sys

import pyarrow as pa
import pytest
from conftest import SCRIPTS

from hps.support.errors import InputError
from hps.support.files import read_json, read_table, sha256, stable_hash, write_json, write_table, write_text, writing

SCHEMA = pa.schema([("name", pa.string()), ("value", pa.float64())])


def test_a_failed_writer_leaves_the_old_file_and_nothing_else(tmp_path):
    write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), writing(tmp_path / "a") as partial:
        partial.write_text("half") / 0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


def test_a_folder_is_replaced_whole(tmp_path):
    for content in ("one", "two"):
        with writing(tmp_path / "folder") as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["two"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    with writing(tmp_path / "a") as first, writing(tmp_path / "a") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "a").read_text() == "first"  # the outer block ends last


WRITER = """
import sys
from hps.support.files import writing
for round in range(200):
    with writing(sys.argv[1]) as partial:
        partial.mkdir()
        for name in "ab":
            (partial / name).write_text(sys.argv[2])
"""


def test_processes_that_write_one_folder_leave_it_whole_and_do_not_stop_each_other(tmp_path):
    words = [sys.executable, "-c", WRITER, str(tmp_path / "folder")]
    writers = [subprocess.Popen([*words, name], cwd=SCRIPTS, stderr=subprocess.PIPE, text=True) for name in "xyz"]
    assert [(writer.communicate()[1], writer.returncode) for writer in writers] == [("", 0)] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    a, b = ((tmp_path / "folder" / name).read_text() for name in "ab")
    assert a == b


def test_tables_come_back_as_they_were(tmp_path):
    rows = [{"name": "a", "value": 1.5}, {"name": "b", "value": None}]
    write_table(tmp_path / "t.parquet", rows, SCHEMA)
    assert read_table(tmp_path / "t.parquet") == rows
    assert read_table(tmp_path / "t.parquet", ["value"]) == [{"value": 1.5}, {"value": None}]


def test_a_table_with_other_columns_is_refused(tmp_path):
    with pytest.raises(KeyError, match="columns"):
        write_table(tmp_path / "t.parquet", [{"name": "a"}], SCHEMA)
    assert not (tmp_path / "t.parquet").exists()
    write_table(tmp_path / "t.parquet", [], SCHEMA)
    with pytest.raises(InputError, match=r"t.parquet: has no column reward"):
        read_table(tmp_path / "t.parquet", ["reward"])


def test_a_truncated_table_is_named(tmp_path):
    write_table(tmp_path / "t.parquet", [{"name": "a", "value": 1.0}], SCHEMA)
    whole = (tmp_path / "t.parquet").read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"t.parquet: not a readable Parquet file"):
        read_table(tmp_path / "t.parquet")


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, "ä"]})
    assert read_json(tmp_path / "a.json") == {"x": [1, "ä"]}
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
    write_text(tmp_path / "c.json", "{")
    with pytest.raises(InputError, match=r"c.json: not valid JSON"):
        read_json(tmp_path / "c.json")


def test_hashes(tmp_path):
    write_text(tmp_path / "a", "abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf")
    assert stable_hash("a", 1) == stable_hash("a", "1") == 4742018630964328543  # never changes: seeds depend on it
    assert stable_hash("a", 1) != stable_hash("a1")


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.py")))
def test_every_command_explains_its_arguments(script):
    done = subprocess.run([sys.executable, SCRIPTS / script, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert any(output in done.stdout for output in ("--out", "--csv", "--png", "--lock"))
