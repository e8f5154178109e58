"""The PKU-SafeRLHF reader: which response is chosen, what is dropped, what is an error."""

import pytest

from hps.data.formats import parser
from hps.data.records import Comparison, read
from hps.support.errors import InputError

ROW = {"prompt": " why? ", "response_0": "no ", "response_1": "so", "better_response_id": 1, "safer_response_id": 0}


def one(label="", **changes):
    records, counts = read([("f:1", ROW | changes)], parser("pku_saferlhf", label))
    assert counts["rows"] == 1
    return (records[0] if records else None), {key: n for key, n in counts.items() if key not in ("rows", "kept")}


@pytest.mark.parametrize(
    ("label", "chosen", "rejected"),
    [("", "so", "no"), ("better_response_id", "so", "no"), ("safer_response_id", "no", "so")],
)
def test_the_label_names_the_chosen_response(label, chosen, rejected):
    record, counts = one(label)
    assert record == Comparison([{"role": "user", "content": "why?"}], chosen, rejected, "f:1")
    assert counts == {"noted: better response is not the safer one": 1}


@pytest.mark.parametrize(
    ("labels", "chosen", "rejected"),
    [
        ({}, None, None),
        ({"is_response_0_safe": True, "is_response_1_safe": False}, True, False),
        ({"is_response_0_safe": None, "is_response_1_safe": True}, False, None),
        ({"is_response_0_safe": "False", "is_response_1_safe": ""}, None, True),  # as in a CSV file
    ],
)
def test_whether_each_reply_is_harmful_goes_with_it(labels, chosen, rejected):
    record, _ = one("better_response_id", **labels)  # response 1 is chosen
    assert (record.chosen_harmful, record.rejected_harmful) == (chosen, rejected)


def test_agreeing_labels_and_a_missing_other_label_are_not_noted():
    assert one(safer_response_id=1)[1] == {}
    only = {key: value for key, value in ROW.items() if key != "safer_response_id"}
    records, counts = read([("f:1", only)], parser("pku_saferlhf"))
    assert (len(records), counts) == (1, {"rows": 1, "kept": 1})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"response_1": ""}, "empty chosen reply"),
        ({"response_0": " \n"}, "empty rejected reply"),
        ({"response_0": "so"}, "identical replies"),
        ({"prompt": " "}, "empty prompt"),
    ],
)
def test_rows_that_cannot_be_used_are_dropped_under_their_reason(changes, reason):
    record, counts = one(safer_response_id=1, **changes)
    assert record is None
    assert counts == {f"dropped: {reason}": 1}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"better_response_id": 2}, "field better_response_id: expected 0 or 1, found 2"),
        ({"better_response_id": -1}, "field better_response_id: expected 0 or 1, found -1"),
        ({"better_response_id": True}, "field better_response_id: expected 0 or 1, found True"),
        ({"better_response_id": 1.0}, "field better_response_id: expected 0 or 1, found 1.0"),
        ({"better_response_id": "yes"}, r"field better_response_id: expected 0 or 1, found text \('yes'\)"),
        ({"safer_response_id": None}, "field safer_response_id: expected 0 or 1, found None"),
        ({"is_response_0_safe": 1}, "field is_response_0_safe: expected true or false, found 1"),
        ({"is_response_1_safe": "yes"}, r"field is_response_1_safe: expected true or false, found text \('yes'\)"),
        ({"prompt": 3}, "field prompt: expected text, found int"),
        ({"response_1": None}, "field response_1: expected text, found NoneType"),
    ],
)
def test_a_wrong_value_is_an_error_naming_row_and_field(changes, what):
    with pytest.raises(InputError, match=f"f:1: {what}"):
        one(**changes)


@pytest.mark.parametrize("field", ["prompt", "response_0", "response_1", "better_response_id"])
def test_a_missing_field_is_an_error_naming_row_and_field(field):
    row = {key: value for key, value in ROW.items() if key != field}
    with pytest.raises(InputError, match=f"f:7: has no field {field}"):
        read([("f:7", row)], parser("pku_saferlhf"))
