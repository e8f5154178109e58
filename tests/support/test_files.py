"""Outputs are whole or absent; inputs that cannot be read are named."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SCRIPTS, called
from safetensors import SafetensorError

from hps.support.errors import InputError
from hps.support.files import (
    identity,
    read_json,
    read_table,
    record,
    sha256,
    stable_hash,
    write_json,
    write_table,
    write_text,
    writing,
)

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


def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path):
    folder = tmp_path / "folder"
    seen, done = [], threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.append(folder.exists())

    with writing(folder) as partial:
        partial.mkdir()
    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(300):
        with writing(folder) as partial:
            partial.mkdir()
            (partial / "number").write_text(str(number))
    done.set()
    watcher.join()
    assert len(seen) > 100
    assert all(seen)
    assert (folder / "number").read_text() == "299"
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


def fail(path):
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize("kind", ["text", "parquet", "safetensors"])
def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, kind):
    write = {
        "text": lambda path: path.write_text("x" * 10**6),
        # An open file: a path that cannot be written is removed, and this one is the machine's device.
        "parquet": lambda path: pq.write_table(pa.table({"a": [1]}), pa.OSFile(str(path), "wb")),
        "safetensors": fail,  # it would replace the device
    }[kind]
    line = f"^{tmp_path}/out: cannot be written: No space left on device$"
    with pytest.raises(InputError, match=line), writing(tmp_path / "out"):
        write(Path("/dev/full"))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_goes_with_the_next_one_and_a_live_writers_stays(tmp_path):
    script = "import os, sys\nfrom hps.support.files import writing\nwith writing(sys.argv[1]) as partial:\n"
    script += " partial.mkdir()\n (partial / 'a').write_text('a')\n os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], cwd=SCRIPTS, check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".partial")
    with writing(tmp_path / "out") as live:
        live.write_text("live")
        assert not left.exists()
        write_text(tmp_path / "out", "other")
        assert live.exists()
    elsewhere = tmp_path / ".out.another-machine-1.0000.partial"
    elsewhere.write_text("still written")
    write_text(tmp_path / "out", "again")
    assert elsewhere.exists()
    os.utime(elsewhere, (0, 0))
    write_text(tmp_path / "out", "again")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    rows = [{"name": f"row {number}", "value": number / 7} for number in range(20)]
    path = tmp_path / "t.parquet"
    write_table(path, rows, SCHEMA, {"candidates": "of today"})
    content = path.read_bytes()
    refused = 0
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :])
        try:
            assert read_table(path) == rows
        except InputError:
            refused += 1
    assert refused > 0.1 * len(content)


def test_what_a_file_holds_is_recorded_and_known_by_one_hash(tmp_path):
    one, same, other = (tmp_path / f"{name}.parquet" for name in ("one", "same", "other"))
    for path, value in ((one, 1.0), (same, 1.0), (other, 2.0)):
        write_table(path, [{"name": "a", "value": value}], SCHEMA, {"pairs": "p"})
    assert record(one)["made_from"] == {"pairs": "p"}
    assert identity(one) == identity(same) != identity(other)
    pq.write_table(pq.read_table(one).replace_schema_metadata({}), other)
    with pytest.raises(InputError, match=r"other.parquet: does not say what it holds: it was not written by this wor"):
        read_table(other)


def test_tables_come_back_as_they_were(tmp_path):
    rows = [{"name": "a", "value": 1.5}, {"name": "b", "value": None}]
    write_table(tmp_path / "t.parquet", rows, SCHEMA)
    assert read_table(tmp_path / "t.parquet") == rows
    assert read_table(tmp_path / "t.parquet", ["value"]) == [{"value": 1.5}, {"value": None}]


def test_a_table_with_other_columns_is_refused(tmp_path):
    with pytest.raises(KeyError, match="columns"):
        write_table(tmp_path / "t.parquet", [{"name": "a", "other": 1}], SCHEMA)
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
    done = called(SCRIPTS / script, "--help")
    assert done.returncode == 0, done.stderr
    assert any(output in done.stdout for output in ("--out", "--lock", "--policies", "--repo", "PART --help"))
