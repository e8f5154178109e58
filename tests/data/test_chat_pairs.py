"""Readers of conversations: what they take, what they drop, and how they name a row of another form."""

import gzip
import json
from collections import Counter

import pytest
from conftest import ROOT
from test_config import load

from hps.data.formats import parser
from hps.data.records import read, read_rows
from hps.support.errors import InputError
from hps.support.yaml_file import read_yaml

YQCCA = ROOT / "config" / "data" / "yqcca.yaml"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


QUESTION, SYSTEM = user("Which way?"), {"role": "system", "content": "Be brief."}
TURNS = [user("Hello"), assistant("Hello."), QUESTION]


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"chosen": [QUESTION, assistant(" Left.\n")], "rejected": [QUESTION, assistant("Up.")]}, [QUESTION]),
        ({"prompt": [QUESTION], "chosen": [assistant("Left.")], "rejected": [assistant("Up.")]}, [QUESTION]),
        ({"prompt": TURNS, "chosen": [*TURNS, assistant("Left.")], "rejected": [*TURNS, assistant("Up.")]}, TURNS),
        (
            {"prompt": [SYSTEM, QUESTION], "chosen": [assistant("Left.")], "rejected": [assistant("Up.")], "id": 3},
            [SYSTEM, QUESTION],
        ),
        ({"prompt": None, "chosen": [*TURNS, assistant("Left.")], "rejected": [*TURNS, assistant("Up.")]}, TURNS),
    ],
)
def test_chat_pairs(row, messages):
    record = parser("chat_pairs")(row, "f.json:1", Counter())
    assert (record.messages, record.chosen, record.rejected) == (messages, "Left.", "Up.")


@pytest.mark.parametrize(
    ("chosen", "rejected", "why"),
    [
        ([QUESTION, assistant("Left.")], [user("Else?"), assistant("Up.")], "prompts differ"),
        ([QUESTION, assistant(" ")], [QUESTION, assistant("Up.")], "empty chosen reply"),
        ([QUESTION, assistant("Left.")], [QUESTION, assistant("")], "empty rejected reply"),
        ([QUESTION, assistant("Left.")], [QUESTION, assistant("Left. ")], "identical replies"),
        ([user(" "), assistant("Left.")], [user(""), assistant("Up.")], "empty prompt"),
        ([*TURNS[:2], assistant("Left.")], [*TURNS[:2], assistant("Up.")], "prompt does not end with the user's turn"),
    ],
)
def test_chat_pairs_that_cannot_be_compared_are_dropped_and_counted(chosen, rejected, why):
    records, counts = read([("f:1", {"chosen": chosen, "rejected": rejected})], parser("chat_pairs"))
    assert records == []
    assert counts == {"rows": 1, f"dropped: {why}": 1}


REPLY = [QUESTION, assistant("Left.")]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        (
            {"prompt": "x", "responses": ["a", "b"]},
            "expected chosen and rejected, found an object with prompt, responses",
        ),
        (
            {"chosen": "Human: a", "rejected": REPLY},
            "field chosen: expected a list of messages, found text ('Human: a')",
        ),
        ({"chosen": REPLY, "rejected": []}, "field rejected: expected a list of messages, found a list of 0"),
        (
            {"prompt": "Which?", "chosen": REPLY, "rejected": REPLY},
            "field prompt: expected a list of messages, found text ('Which?')",
        ),
        ({"chosen": ["a"], "rejected": REPLY}, " chosen[0]: expected {role, content}, found text ('a')"),
        ({"chosen": [{"from": "human"}], "rejected": REPLY}, " chosen[0]: has no field role"),
        (
            {"chosen": [{"role": "human", "content": "a"}], "rejected": REPLY},
            " chosen[0]: field role: 'human' is none of system, user, assistant",
        ),
        (
            {"chosen": [{"role": "user", "content": [1]}], "rejected": REPLY},
            " chosen[0]: field content: expected text, found list",
        ),
        ({"chosen": [QUESTION], "rejected": REPLY}, "field chosen: the last turn is not the assistant's but user's"),
        (
            {"chosen": [assistant("a")], "rejected": [assistant("b")]},
            "there is no prompt: no list of messages in prompt",
        ),
    ],
)
def test_rows_of_another_form_are_named_with_what_they_hold(row, what):
    with pytest.raises(InputError) as caught:
        parser("chat_pairs")(row, "f.json:7", Counter())
    assert str(caught.value).startswith("f.json:7: ")
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("label", "chosen", "rejected"), [("first", "a", "b"), ("second", "b", "a")])
def test_prompt_responses(label, chosen, rejected):
    record = parser("prompt_responses", label)({"prompt": TURNS, "responses": ["a ", "b"]}, "f:1", Counter())
    assert (record.messages, record.chosen, record.rejected) == (TURNS, chosen, rejected)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"chosen": REPLY, "rejected": REPLY}, "expected prompt and responses, found an object with chosen, rejected"),
        ({"prompt": "Which?", "responses": ["a", "b"]}, "field prompt: expected a list of messages, found text ('Whi"),
        ({"prompt": TURNS, "responses": ["a"]}, "field responses: expected a list of two texts, found a list of 1 (te"),
        ({"prompt": TURNS, "responses": [REPLY, REPLY]}, "field responses[0]: expected text, found list"),
    ],
)  # fmt: skip
def test_prompt_responses_of_another_form_are_named(row, what):
    with pytest.raises(InputError) as caught:
        parser("prompt_responses", "first")(row, "f.json:7", Counter())
    assert str(caught.value).startswith(f"f.json:7: {what}")


def test_identical_responses_are_dropped():
    records, counts = read([("f:1", {"prompt": TURNS, "responses": ["a", "a "]})], parser("prompt_responses", "first"))
    assert (records, counts["dropped: identical replies"]) == ([], 1)


@pytest.mark.parametrize(
    ("format", "label", "what"),
    [
        (
            "prompt_responses",
            "",
            "'' is none of first, second, which say what prompt_responses prefers",
        ),
        ("chat_pairs", "first", "chat_pairs says which reply is chosen; it has no field 'first'"),
    ],
)
def test_labels(format, label, what):
    with pytest.raises(InputError, match=what):
        parser(format, label)


ROWS = [{"a": 1}, {"a": "two"}]


@pytest.mark.parametrize("name", ["x.json", "x.json.gz", "x.jsonl", "x.jsonl.gz"])
@pytest.mark.parametrize("layout", ["lines", "array", "indented"])
def test_a_json_file_holds_lines_or_one_array(tmp_path, name, layout):
    lines = "".join(f"{json.dumps(row)}\n" for row in ROWS)
    text = {"lines": lines, "array": json.dumps(ROWS), "indented": "\n " + json.dumps(ROWS, indent=2)}[layout]
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    if layout != "lines" and "jsonl" in name:
        with pytest.raises(InputError, match=f"{path}:1: "):
            list(read_rows(path))
        return
    assert list(read_rows(path)) == [(f"{path}:{i}", row) for i, row in enumerate(ROWS, 1)]
    assert [source for source, _ in read_rows(path, "owner/repo/x")] == ["owner/repo/x:1", "owner/repo/x:2"]


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("x.json", "[1, 2]", "x.json:1: expected a JSON object, found int"),
        ("x.json", "[{}, {", "x.json: not valid JSON"),
        ("x.xml", "", r"x.xml: expected a file \.json or \.jsonl"),
    ],
)
def test_other_files_are_refused(tmp_path, name, text, what):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=what):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize("protocol", ["paper", "released_code"])
def test_the_authors_prompt_sets_are_a_configuration_file(protocol):
    config = load(preset="paper", protocol=protocol, **read_yaml(YQCCA))
    assert config["data"]["hh_rlhf"]["hub"] == "yqcca/HH-RLHF"
    assert config["data"]["pku_saferlhf"]["hub_files"]["train"] == ["pkusafe.json"]
    for name in config["grid"]["datasets"]:
        source = config["data"][name]
        assert parser(source["format"], source["label"])
    # Every part that a split draws from has a file.
    assert {split["from"] for split in config["data"]["splits"].values()} == {"train"}
