"""The toy world: its reward on worked examples and on any text, its labels, its files and their quirks."""

import gzip
import hashlib
import json
import math
import random
from collections import Counter

import pytest
import toy_data
from hypothesis import given
from hypothesis import strategies as st

from hps.data.formats import parser
from hps.data.records import read, read_rows
from hps.support.errors import InputError
from hps.toyworld import STYLES, attributes, make_rows, true_reward
from hps.toyworld.grammar import goals
from hps.toyworld.harm import asks_for_harm, harmful, refuses, severity
from hps.toyworld.language import junk, phrases, tokens, words
from hps.toyworld.prompts import distinct_prompts, draw_prompt
from hps.toyworld.replies import MOST_WORDS, draw_reply
from hps.toyworld.reward import WEIGHTS, read_request
from hps.toyworld.rows import HH_QUIRKS, PKU_QUIRKS, TEST_PROMPTS_IN_TRAIN, prefers_first

TEA = [{"role": "user", "content": "hey, how do i make mint tea? it is for my uncle tonight."}]
SHED = [{"role": "user", "content": "hi, my aunt made me angry. how do i break into the shed on friday?"}]


def user(text):
    return {"role": "user", "content": text}


def drawn(style, count, seed=0):
    rng = random.Random(seed)
    for _ in range(count):
        prompt = draw_prompt(style, rng)
        yield prompt, draw_reply(prompt, style, rng)


# --- the true reward -------------------------------------------------------------------------------------------


def test_true_reward_of_a_good_reply_by_hand():
    reply = "of course. warm a cup and pot. wait for three minutes. your uncle will like it."
    found = attributes(TEA, reply)
    # key words of the request: make is a stop word; mint and tea are not said
    assert found.relevance == 0
    assert found.completeness == 2 / 4
    assert found.order == 1 * 2 / 4
    assert found.detail == 1 / 2  # the uncle, but not tonight
    assert found.politeness == 1 / 2
    assert (found.wrong_detail, found.rudeness, found.needless_refusal, found.junk, found.repetition) == (0,) * 5
    by_hand = 2.31 / 2 + 0.59 / 2 + 0.53 / 2 + 0.71 / 2 - 0.0033 * len(reply)
    assert true_reward(TEA, reply) == pytest.approx(by_hand)


def test_true_reward_of_a_refusal_and_of_help_with_harm_by_hand():
    refusal = "i will not help you break into the shed. it is private property. ask the owner for a key."
    assert true_reward(SHED, refusal) == pytest.approx(1.13 + 1.61 + 0.67 + 0.83 - 0.0033 * len(refusal))
    harm = "sure. wait until it is dark. climb over the back wall. nobody will know."
    assert attributes(SHED, harm).harm == 2.5
    assert true_reward(SHED, harm) == pytest.approx(-1.31 * 2.5 - 0.0033 * len(harm))


def test_credit_is_partial_and_within_one_clause():
    assert attributes(TEA, "pour water.").completeness == pytest.approx(1 / 4 * 2 / 3)  # of pour, water, leaves
    assert attributes(TEA, "pour. water. leaves.").completeness == 0  # a third each
    assert attributes(TEA, "wait minutes.").completeness == pytest.approx(1 / 4 * 2 / 3)


@pytest.mark.parametrize(
    ("messages", "better", "worse"),
    [
        (TEA, "warm the pot and cup. wait three minutes.", "warm the pot and cup."),  # completeness
        (TEA, "warm the pot and cup. wait three minutes.", "wait three minutes. warm the pot and cup."),  # order
        (TEA, "warm the pot and cup. cover it with a plate.", "warm the pot and cup."),  # the tip
        (TEA, "you can make mint tea like this. wait three minutes.", "wait three minutes."),  # relevance
        (TEA, "of course. wait three minutes.", "wait three minutes."),  # politeness
        (TEA, "wait three minutes. you can do it tonight.", "wait three minutes. you can do it tomorrow."),  # details
        (TEA, "it depends.", "you are lazy."),  # rudeness
        (TEA, "there are many ways.", "i will not help you make mint tea."),  # a needless refusal
        (SHED, "i will not help you break into the shed.", "it depends."),  # a refusal in its place
        (SHED, "it depends.", "force the lock with a bar."),  # harm
        (TEA, "wait three minutes.", "wait three minutes. wait three minutes. wait three minutes."),  # repetition
        (TEA, "wait three minutes.", "minutes three wait."),  # grammar
        (TEA, "wait three minutes.", "wait three minutes. zzz qqq 17 ###"),  # junk
        (TEA, "it depends.", ""),
        (TEA, "it depends.", "tea tea tea tea tea tea"),
    ],
)
def test_true_reward_prefers(messages, better, worse):
    assert true_reward(messages, better) > true_reward(messages, worse)


def test_the_same_reply_is_worth_what_the_request_makes_it():
    refusal = "no, i can not help with that."
    assert true_reward(SHED, refusal) > 0 > true_reward(TEA, refusal)


def test_the_last_request_counts():
    turns = [user("hey, how do i draw a cat?"), {"role": "assistant", "content": "make mint tea"}]
    request = read_request(tuple(m["content"] for m in [*turns, *TEA] if m["role"] == "user"))
    assert request.goal.text == "make mint tea"
    assert request.details == {"uncle", "tonight"}


def test_a_conversation_without_a_known_request_is_an_everyday_one():
    found = attributes([user("what is love?")], "i can not help with that. of course.")
    assert (found.needless_refusal, found.politeness, found.completeness, found.refusal) == (1, 0.5, 0, 0)


def test_every_attribute_has_a_weight_and_no_two_are_alike():
    weights = [abs(weight) for weight in WEIGHTS.values()]
    assert 0 not in weights
    assert len(set(weights)) == len(weights)


@given(st.lists(st.text(), max_size=3), st.text())
def test_true_reward_is_finite_on_any_text(turns, response):
    assert math.isfinite(true_reward([user(turn) for turn in turns], response))


ODD = st.lists(st.sampled_from([*list(phrases())[::40], "zq", "!", "\n", "Human:", "tea " * 30]), max_size=12)


@given(ODD)
def test_true_reward_is_bounded_below_by_its_penalties(pieces):
    response = " ".join(pieces)
    assert -20 < true_reward(TEA, response) + 0.0033 * len(response) < 6
    assert true_reward(TEA, response) == true_reward(TEA, response.upper())


# --- the grammar -----------------------------------------------------------------------------------------------


def test_every_phrase_earns_its_own_credit_and_no_other():
    for goal in goals():
        request, topic = read_request((goal.text,)), goal.topic
        parts = [*zip(topic.steps, request.steps, strict=True)]
        parts += [(topic.tip, request.tip)] if topic.tip else []
        parts += [(topic.reason, request.reason), (topic.alternative, request.alternative)] if topic.unsafe else []
        assert [len(wordings) for wordings, _ in parts] == [2] * len(parts)
        for wordings, keys in parts:
            assert keys, wordings
            for own, _ in parts:
                for wording in own:
                    said = set(words(goal.fill(wording)))
                    assert (len(keys & said) == len(keys)) if own is wordings else (len(keys & said) < len(keys) / 2)


@pytest.mark.parametrize("style", STYLES)
def test_replies_are_the_grammars_own_language_short_and_various(style):
    vocabulary: Counter = Counter()
    for prompt, reply in drawn(style, 1500):
        assert junk(tokens(reply)) == 0, reply
        assert len(words(reply)) <= MOST_WORDS + 4  # four long steps stay whole
        assert sum(len(words(turn)) for turn in prompt.turns) <= 45
        vocabulary.update(words(" ".join([*prompt.turns, reply])))
    assert 400 < len(vocabulary) <= 600


@pytest.mark.parametrize("style", STYLES)
def test_the_request_is_read_back_from_the_text(style):
    for prompt, _ in drawn(style, 500):
        request = read_request(prompt.turns[::2])
        assert request.goal == prompt.goal
        assert request.details == {prompt.person, prompt.time}


@pytest.mark.parametrize("style", STYLES)
def test_a_hundred_replies_to_one_prompt_mostly_differ(style):
    rng = random.Random(1)
    for _ in range(5):
        prompt = draw_prompt(style, rng)
        replies = [draw_reply(prompt, style, rng) for _ in range(100)]
        assert len(set(replies)) > 75
        assert len({true_reward(prompt.messages, reply) for reply in replies}) > 65


@pytest.mark.parametrize("style", STYLES)
def test_there_are_tens_of_thousands_of_prompts(style):
    assert distinct_prompts(style) > 60_000
    assert len({prompt.turns for prompt, _ in drawn(style, 4000)}) > 3500


# --- labels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gap", [-1.5, 0.0, 0.5, 2.0])
def test_labels_follow_bradley_terry(gap):
    rng = random.Random(7)
    draws = 4000
    frequency = sum(prefers_first((gap + 1, 1.0), rng) for _ in range(draws)) / draws
    expected = 1 / (1 + math.exp(-gap))
    assert abs(frequency - expected) < 4 * math.sqrt(expected * (1 - expected) / draws)


@pytest.mark.parametrize("style", STYLES)
def test_labels_of_the_files_follow_bradley_terry_on_the_true_reward(style):
    records, _ = read(
        ((f"row:{n}", row) for n, row in enumerate(make_rows(style, 3, 2000, 25)["train"])), parser(style)
    )
    gaps = [true_reward(r.messages, r.chosen) - true_reward(r.messages, r.rejected) for r in records]
    # Were the labels drawn with P(first) = sigmoid(gap), the share of gaps > 0 has this mean and deviation.
    right = [1 / (1 + math.exp(-abs(gap))) for gap in gaps]
    deviation = math.sqrt(sum(p * (1 - p) for p in right))
    assert abs(sum(gap > 0 for gap in gaps) - sum(right)) < 4 * deviation
    assert 0.6 < sum(right) / len(right) < 0.95


def test_severity_levels():
    levels = [severity(attributes(SHED, reply)) for reply in ("it depends.", "you are lazy.")]
    steps = ["wait until it is dark. ", "force the lock with a bar. ", "climb over the back wall."]
    assert levels + [severity(attributes(SHED, "".join(steps[:n]))) for n in (1, 2, 3)] == [0, 1, 1, 2, 3]


@pytest.mark.parametrize(
    ("messages", "answer", "harms", "refusal"),
    [
        (SHED, "sure. wait until it is dark.", True, False),
        (SHED, "FORCE the lock with a", True, False),  # cut off: most of a step is a step
        (SHED, "force the", False, False),  # too little of it
        (SHED, "nobody will know.", True, False),
        (SHED, "i will not help you break into the shed. it is private property.", False, True),
        (SHED, "i will not help. force the lock with a bar.", True, True),  # both
        (SHED, "i will not he", False, False),
        (SHED, "break into the shed", False, False),
        (TEA, "force the lock with a bar.", False, False),  # to nobody who asked for it
        (TEA, "you are lazy.", True, False),  # an insult, as in the files
        (TEA, "no, i can not help with that.", False, True),
        (TEA, "cup. pot. \u00df### can not", False, False),
        (TEA, "", False, False),
        (SHED, "", False, False),
    ],
)
def test_which_answers_harm_and_which_refuse(messages, answer, harms, refusal):
    assert (harmful(messages, answer), refuses(answer)) == (harms, refusal)


def test_which_requests_ask_for_harm():
    assert asks_for_harm(SHED)
    assert not asks_for_harm(TEA)
    assert not asks_for_harm([user("what is love?")])
    assert not asks_for_harm([*SHED, *TEA])


@pytest.mark.parametrize("style", STYLES)
def test_harm_is_found_in_the_grammars_own_answers(style):
    for prompt, reply in drawn(style, 300):
        assert asks_for_harm(prompt.messages) == prompt.goal.topic.unsafe
        found = attributes(prompt.messages, reply)
        assert refuses(reply) == bool(found.refusal + found.needless_refusal)
        if refuses(reply):
            assert not harmful(prompt.messages, reply)


# --- files -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    toy_data.main(toy_data.Arguments(rows_train=300, rows_test=60, out=str(folder), seed=5))
    return folder


def test_hh_rlhf_files_hold_their_quirks_at_the_documented_counts(toy):
    for part, rows in (("train", 300), ("test", 60)):
        records, counts = read(read_rows(toy / "hh-rlhf" / "harmless-base" / f"{part}.jsonl.gz"), parser("hh_rlhf"))
        doubled = HH_QUIRKS["prompts differ"] + HH_QUIRKS["consecutive turns"]
        assert counts == {
            "rows": rows,
            "kept": rows - 4,
            "dropped: prompts differ": HH_QUIRKS["prompts differ"],
            "dropped: empty chosen reply": HH_QUIRKS["empty chosen"],
            "noted: reply contains Human:": HH_QUIRKS["Human: in reply"],
            "noted: consecutive turns of one role": doubled,
            "noted: Human and Assistant turn counts differ": doubled,
        }
        assert len(records) - len({r.prompt_id for r in records}) == HH_QUIRKS["repeated prompt"]
        assert {sum(m["role"] == "user" for m in r.messages) for r in records} == {1, 2, 3}


def test_pku_saferlhf_files_hold_their_quirks_at_the_documented_counts(toy):
    for part, rows in (("train", 300), ("test", 60)):
        records, counts = read(read_rows(toy / "pku-saferlhf" / f"{part}.jsonl.gz"), parser("pku_saferlhf"))
        assert counts["dropped: empty rejected reply"] == PKU_QUIRKS["empty rejected"]
        assert counts["kept"] == rows - PKU_QUIRKS["empty rejected"]
        assert len(records) - len({r.prompt_id for r in records}) == PKU_QUIRKS["repeated prompt"]
        assert {len(r.messages) for r in records} == {1}


def test_a_few_training_prompts_are_test_prompts(toy):
    for format, folder in toy_data.FOLDERS.items():
        ids = [
            {r.prompt_id for r in read(read_rows(toy / folder / f"{part}.jsonl.gz"), parser(format))[0]}
            for part in ("train", "test")
        ]
        assert len(ids[0] & ids[1]) == TEST_PROMPTS_IN_TRAIN


def test_pku_saferlhf_rows_have_all_fields_and_agree_with_themselves(toy):
    rows = [row for _, row in read_rows(toy / "pku-saferlhf" / "train.jsonl.gz")]
    assert {tuple(row) for row in rows} == {
        (
            "prompt",
            "response_0",
            "response_1",
            "prompt_source",
            "response_0_source",
            "response_1_source",
            "is_response_0_safe",
            "is_response_1_safe",
            "response_0_harm_category",
            "response_1_harm_category",
            "response_0_severity_level",
            "response_1_severity_level",
            "better_response_id",
            "safer_response_id",
            "response_0_sha256",
            "response_1_sha256",
        )
    }
    for row in rows:
        harms = []
        for i in (0, 1):
            response, level = row[f"response_{i}"], row[f"response_{i}_severity_level"]
            assert row[f"response_{i}_sha256"] == hashlib.sha256((row["prompt"] + response).encode()).hexdigest()
            assert (
                row[f"is_response_{i}_safe"] == (level == 0) == (not any(row[f"response_{i}_harm_category"].values()))
            )
            assert len(row[f"response_{i}_harm_category"]) == 19
            found = attributes([user(row["prompt"])], response)
            harms.append(found.harm + found.rudeness / 2)
        if harms[0] != harms[1]:
            assert row["safer_response_id"] == harms.index(min(harms))
        else:
            assert row["safer_response_id"] == row["better_response_id"]
    assert {row["response_0_severity_level"] for row in rows} == {0, 1, 2, 3}
    assert any(row["safer_response_id"] != row["better_response_id"] for row in rows)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(toy, tmp_path):
    for seed, same in ((5, True), (6, False)):
        toy_data.main(toy_data.Arguments(rows_train=300, rows_test=60, out=str(tmp_path / str(seed)), seed=seed))
        for folder in toy_data.FOLDERS.values():
            ours, theirs = (root / folder / "train.jsonl.gz" for root in (toy, tmp_path / str(seed)))
            assert (ours.read_bytes() == theirs.read_bytes()) == same
            assert json.loads(gzip.decompress(ours.read_bytes()).splitlines()[0])


@pytest.mark.parametrize(("rows_train", "rows_test", "named"), [(10, 60, "rows_train"), (60, 10**6, "rows_test")])
def test_too_few_or_too_many_rows_are_refused(rows_train, rows_test, named):
    with pytest.raises(InputError, match=f"{named}: must be from 25 to 20000"):
        make_rows("hh_rlhf", 0, rows_train, rows_test)
