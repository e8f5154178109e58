"""The HH-RLHF reader: dialogues into turns, and each quirk counted under its reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hps.data.formats import parser
from hps.data.formats.hh_rlhf import render, turns
from hps.data.records import Comparison, read
from hps.support.errors import InputError

PROMPT = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how?"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def one(chosen, rejected):
    records, counts = read([("f:1", {"chosen": chosen, "rejected": rejected})], parser("hh_rlhf"))
    assert counts["rows"] == 1
    assert counts["kept"] == len(records) == 1 - sum(n for key, n in counts.items() if key.startswith("dropped: "))
    return (records[0] if records else None), {key: n for key, n in counts.items() if key not in ("rows", "kept")}


def test_a_row_by_hand():
    record, counts = one(f"{PROMPT}\n\nAssistant: so.\n\nAnd so.", f"{PROMPT}\n\nAssistant: no")
    assert record == Comparison([user("hi"), assistant("hello"), user("how?")], "so.\n\nAnd so.", "no", "f:1")
    assert counts == {}


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        (f"{PROMPT}\n\nAssistant: ", f"{PROMPT}\n\nAssistant: a", {"dropped: empty chosen reply": 1}),
        (f"{PROMPT}\n\nAssistant: a", f"{PROMPT}\n\nAssistant:", {"dropped: empty rejected reply": 1}),
        (f"{PROMPT}\n\nAssistant: a", f"{PROMPT}?\n\nAssistant: b", {"dropped: prompts differ": 1}),
        (f"{PROMPT}\n\nAssistant: a", f"{PROMPT}\n\nAssistant: a ", {"dropped: identical replies": 1}),
        (
            f"{PROMPT}\n\nAssistant: a",
            PROMPT,
            {"dropped: last turn is not Assistant's": 1, "noted: Human and Assistant turn counts differ": 1},
        ),
        ("text", "text", {"dropped: does not start with Human's turn": 1}),
        ("", "", {"dropped: does not start with Human's turn": 1}),
        (f"see:{PROMPT}", f"see:{PROMPT}", {"dropped: does not start with Human's turn": 1}),
        (
            f"\n\nAssistant: hm{PROMPT}\n\nAssistant: a",
            f"\n\nAssistant: hm{PROMPT}\n\nAssistant: b",
            {"dropped: does not start with Human's turn": 1, "noted: Human and Assistant turn counts differ": 1},
        ),
        (
            f"{PROMPT}\n\nAssistant: a\n\nAssistant: b",
            f"{PROMPT}\n\nAssistant: b",
            {
                "dropped: prompts differ": 1,
                "noted: consecutive turns of one role": 1,
                "noted: Human and Assistant turn counts differ": 1,
            },
        ),
        (
            f"{PROMPT}\n\nAssistant: a\n\nAssistant: b",
            f"{PROMPT}\n\nAssistant: a\n\nAssistant: c",
            {
                "dropped: prompt does not end with Human's turn": 1,
                "noted: consecutive turns of one role": 1,
                "noted: Human and Assistant turn counts differ": 1,
            },
        ),
    ],
)
def test_rows_that_cannot_be_used_are_dropped_under_their_reason(chosen, rejected, expected):
    record, counts = one(chosen, rejected)
    assert record is None
    assert counts == expected


def test_a_reply_that_says_human_is_kept_and_counted():
    record, counts = one(f"{PROMPT}\n\nAssistant: Human: who?", f"{PROMPT}\n\nAssistant: I.\nHuman: you")
    assert (record.chosen, record.rejected) == ("Human: who?", "I.\nHuman: you")
    assert counts == {"noted: reply contains Human:": 1}


def test_consecutive_turns_of_one_role_become_one():
    record, counts = one(f"\n\nHuman: hey{PROMPT}\n\nAssistant: a", f"\n\nHuman: hey{PROMPT}\n\nAssistant: b")
    assert record.messages == [user("hey\n\nhi"), assistant("hello"), user("how?")]
    assert counts == {
        "noted: consecutive turns of one role": 1,
        "noted: Human and Assistant turn counts differ": 1,
    }


def test_an_empty_turn_in_the_prompt_is_kept_and_counted():
    record, counts = one(*(f"\n\nHuman:\n\nAssistant: yes?{PROMPT}\n\nAssistant: {reply}" for reply in "ab"))
    assert record.messages[0] == user("")
    assert counts == {"noted: empty turn in the prompt": 1}


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"chosen": PROMPT}, "has no field rejected"),
        ({"rejected": PROMPT}, "has no field chosen"),
        ({"chosen": PROMPT, "rejected": None}, "field rejected: expected text, found NoneType"),
        ({"chosen": [PROMPT], "rejected": PROMPT}, "field chosen: expected text, found list"),
    ],
)
def test_a_row_without_its_fields_is_an_error_naming_row_and_field(row, what):
    good = {"chosen": f"{PROMPT}\n\nAssistant: a", "rejected": f"{PROMPT}\n\nAssistant: b"}
    with pytest.raises(InputError, match=f"f:2: {what}"):
        read([("f:1", good), ("f:2", row)], parser("hh_rlhf"))


CONTENT = st.text(alphabet=st.sampled_from("ab :\nHumanAssistt.é"), max_size=30).map(str.strip)
DIALOGUE = st.lists(
    st.builds(dict, role=st.sampled_from(["user", "assistant"]), content=CONTENT.filter(lambda t: "\n\n" not in t)),
    min_size=1,
    max_size=6,
)


@given(DIALOGUE)
def test_turns_inverts_render(dialogue):
    assert turns(render(dialogue)) == dialogue


@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=5))
def test_every_row_is_kept_or_dropped_for_one_reason(texts):
    rows = [(f"f:{n}", {"chosen": PROMPT + c, "rejected": PROMPT + r}) for n, (c, r) in enumerate(texts)]
    rows = [(s, {k: t.encode(errors="replace").decode() for k, t in row.items()}) for s, row in rows]
    records, counts = read(rows, parser("hh_rlhf"))
    assert counts["rows"] == len(rows) == len(records) + sum(n for key, n in counts.items() if key[:4] == "drop")
