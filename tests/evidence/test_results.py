"""Result files that are empty, cut off or of another shape are refused with file and row."""

import pytest

from hps.evidence.results import number, read_csv, read_jsonl
from hps.support.errors import InputError

TABLE = "method,reward\nsft,0.25\ndpo-hps,0.5\n"
LOG = '{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'


def test_whole_files_are_read(tmp_path):
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "log.jsonl").write_text(LOG)
    assert read_csv(tmp_path / "table.csv", ("method",)) == [
        {"method": "sft", "reward": "0.25"},
        {"method": "dpo-hps", "reward": "0.5"},
    ]
    assert read_jsonl(tmp_path / "log.jsonl") == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25}]


@pytest.mark.parametrize(("text", "read"), [(TABLE, lambda path: read_csv(path, ("method",))), (LOG, read_jsonl)])
def test_a_file_cut_off_within_a_line_is_refused_wherever_the_cut_is(tmp_path, text, read):
    path = tmp_path / "file"
    for end in range(len(text)):
        path.write_text(text[:end])
        if end and text[end - 1] == "\n" and end > text.index("\n") + 1 - (text is LOG):
            continue  # whole lines, and at least a row of them: what is missing cannot be seen
        with pytest.raises(InputError) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", ": is empty"),
        ("method,reward\n", ": has no rows"),
        ("method,reward\nsft,0.25,1\n", ":1: has 3 cells where the header has 2"),
        ("method,reward\nsft,0.25\ndpo-hps\n", ":2: has 1 cells where the header has 2"),
        ("name,reward\nsft,0.25\n", ": has no column method"),
    ],
)
def test_a_broken_table_is_named(tmp_path, content, says):
    (tmp_path / "table.csv").write_text(content)
    with pytest.raises(InputError) as caught:
        read_csv(tmp_path / "table.csv", ("method",))
    assert str(caught.value) == f"{tmp_path / 'table.csv'}{says}"


@pytest.mark.parametrize("line", ["[1]", '{"loss": NaN}', '{"loss": 1e999}', "{", "\xff"])
def test_a_broken_log_is_named_with_its_line(tmp_path, line):
    (tmp_path / "log.jsonl").write_bytes(f"{LOG}{line}\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"log\.jsonl:3: not (valid JSON|a JSON object)"):
        read_jsonl(tmp_path / "log.jsonl")


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "0.5x"])
def test_a_cell_that_is_no_number_is_named(text):
    assert number({"reward": "0.5"}, "reward", "f") == 0.5
    with pytest.raises(InputError, match=f"f: reward is '{text}', not a number"):
        number({"reward": text}, "reward", "f")
