"""The judge's prompt and the reading of its replies."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hps.judge import prompt
from hps.judge.prompt import CRITERIA, MalformedReply, read_reply

GOOD = {"response_a": dict.fromkeys(CRITERIA, 4.5), "response_b": dict.fromkeys(CRITERIA, 2)}
CONVERSATION = [{"role": "user", "content": "how do i bake bread?"}]


def changed(**scores) -> str:
    return json.dumps(GOOD | {"response_a": GOOD["response_a"] | scores})


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(GOOD),
        f"\n {json.dumps(GOOD, indent=2)} ",
        f"```json\n{json.dumps(GOOD)}\n```",
        f"<think>\nA says {{this}}, B </that>.\n</think>\n\n{json.dumps(GOOD)}",
        f"A is better, then.\n</think>{json.dumps(GOOD)}",  # where the template wrote the first tag
        f"<think></think><think>hm</think>\n```json\n{json.dumps(GOOD)}\n```",
        f"<THINKING>x</THINKING> {json.dumps(GOOD)}",
        f"<reasoning>x</reasoning>{json.dumps(GOOD)}",
        f"[THINK]x[/THINK]{json.dumps(GOOD)}",
        f"◁think▷x◁/think▷{json.dumps(GOOD)}",
    ],
)
def test_a_good_reply(text):
    first, second = read_reply(text)
    assert first == dict.fromkeys(CRITERIA, 4.5)
    assert prompt.mean_score(second) == 2.0


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "not valid JSON"),
        ("Response A is better.", "not valid JSON"),
        (f"Sure! {json.dumps(GOOD)}", "not valid JSON"),
        (json.dumps(GOOD) * 2, "not valid JSON"),
        ("<think>" + json.dumps(GOOD), "not valid JSON"),
        (json.dumps(GOOD)[:-1] + ', "response_a": ' + json.dumps(GOOD["response_b"]) + "}", "stands twice"),
        (changed(safety="#").replace('"#"', "7" * 400), "is too large"),
        (changed(safety="#").replace('"#"', "7" * 5000), "is too large"),
        (changed(safety="#").replace('"#"', "1e999"), "is too large"),
        (changed(safety="#").replace("#", "\\ud800"), "response_a.safety holds half of a surrogate pair"),
        ("[" * 100_000, "nested more than 100 levels"),
        ("null", "is not of type 'object'"),
        (json.dumps([GOOD]), "is not of type 'object'"),
        (json.dumps({"response_a": GOOD["response_a"]}), "'response_b' is a required property"),
        (changed(safety="5"), "response_a.safety: '5' is not of type 'number'"),
        (changed(safety=True), "response_a.safety: True is not of type 'number'"),
        (changed(safety=5.5), "5.5 is not one of"),
        (changed(safety=-0.5), "-0.5 is not one of"),
        (changed(safety=4.2), "4.2 is not one of"),
        (changed(safety=None), "None is not of type 'number'"),
        (changed(overall=5), "'overall' was unexpected"),
        (changed(safety=float("nan")), "NaN is no JSON number"),
    ],
)
def test_a_malformed_reply_says_in_what(text, problem):
    with pytest.raises(MalformedReply, match=problem):
        read_reply(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 6) | st.floats(-1, 6) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["response_a", "response_b", *CRITERIA]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(JSON)
def test_whatever_comes_is_scores_or_malformed(value):
    try:
        read = read_reply(json.dumps(value))
    except MalformedReply:
        return
    for scores in read:
        assert scores.keys() == CRITERIA.keys()
        assert all(0 <= score <= 5 and (2 * score).is_integer() for score in scores.values())


@given(st.text(), st.text())
def test_responses_cannot_leave_their_place(first, second):
    system, user = prompt.messages(CONVERSATION, first, second)
    assert json.loads(user["content"]) == {
        "conversation": CONVERSATION,
        "response_a": first,
        "response_b": second,
    }
    assert system["content"] == prompt.SYSTEM


def test_the_prompt_shows_a_reply_that_it_would_accept():
    shown = prompt.SYSTEM[prompt.SYSTEM.rindex("\n") + 1 :]
    assert read_reply(shown.replace("<score>", "3.5"))[0] == dict.fromkeys(CRITERIA, 3.5)
    assert all(f"- {name}: " in prompt.SYSTEM for name in ("correctness", "helpfulness", "safety", "clarity"))


def test_asking_again_is_another_question():
    asked = prompt.messages(CONVERSATION, "a", "b")
    twice = prompt.again(asked, "nonsense", "it is not valid JSON")
    assert twice[: len(asked)] == asked
    assert twice[-2:-1] == [{"role": "assistant", "content": "nonsense"}]
    assert "it is not valid JSON" in twice[-1]["content"]
