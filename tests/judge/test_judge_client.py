"""The judge's endpoint when it fails, is slow, talks nonsense or costs too much."""

import asyncio
import base64
import dataclasses
import html
import json
import time
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from judge_server import Server, by_length, completion, error, scores, serving

from hps.judge.cache import Cache
from hps.judge.client import Client, Endpoint, Limits, Refused, UnusableAnswer
from hps.judge.comparisons import JudgedPair, method_first
from hps.judge.judging import by_endpoint
from hps.support.errors import InputError
from hps.support.files import read_json

KEY = "sk-very-secret-0123456789"
LIMITS = Limits(
    concurrency=4, timeout=5.0, retries=3, answer_tokens=200, temperature=0.0, max_requests=1000,
    token_limit="max_tokens", structured_output="never",
)  # fmt: skip
ASKED = [{"role": "user", "content": "which is better?"}]


@pytest.fixture
def server():
    with serving() as running:
        yield running


def client(server: Server, folder: Path, **limits) -> Client:
    return Client(Endpoint(server.url, "judge-1", KEY), Cache(folder), dataclasses.replace(LIMITS, **limits))


def ask(server: Server, folder: Path, **limits) -> str:
    async def once() -> str:
        return (await client(server, folder, **limits).ask(ASKED)).reply

    return asyncio.run(once())


def item(number: int, ours: str, theirs: str) -> JudgedPair:
    key = {"test_set": "hh_rlhf", "method": "dpo-hps", "baseline": "sft", "seed": 0, "prompt_id": f"p{number:03d}"}
    conversation = [{"role": "user", "content": f"question {number}"}]
    return JudgedPair(**key, index=0, conversation=conversation, responses=(ours, theirs), true_rewards=(None, None))


ITEMS = [item(number, "x" * (number % 5 + 1), "y" * 3) for number in range(12)]


def judge(server: Server, folder: Path, items=ITEMS, orders="both", **limits) -> list[dict]:
    async def all_of_them() -> list[dict]:
        return await by_endpoint(items, client(server, folder, **limits), orders, seed=0)

    return asyncio.run(all_of_them())


# --- one request -----------------------------------------------------------------------------------------------


def test_what_is_sent_and_kept(server, tmp_path):
    server.answer = lambda request: completion("fine", 7)
    assert ask(server, tmp_path) == "fine"
    (request,) = server.requests
    assert request == {"model": "judge-1", "messages": ASKED, "temperature": 0.0, "max_tokens": 200}
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    (entry,) = tmp_path.rglob("*.json")
    assert read_json(entry) == {"request": request, "reply": "fine", "tokens": 7, "cut_off": False}
    assert Cache(tmp_path).totals() == (1, 7)


def test_an_answer_in_the_cache_is_not_asked_for_again(server, tmp_path):
    server.answer = lambda request: completion("fine")
    for _ in range(3):
        assert ask(server, tmp_path) == "fine"
    assert len(server.requests) == 1
    assert ask(server, tmp_path, answer_tokens=201) == "fine"  # another parameter is another question
    assert len(server.requests) == 2


def test_the_same_question_from_two_sides_at_once_is_paid_for_once(server, tmp_path):
    server.answer, server.delay = lambda request: completion("fine"), 0.2

    async def twice() -> list[str]:
        one = client(server, tmp_path)
        return await asyncio.gather(one.ask(ASKED), one.ask(ASKED))

    assert [answer.reply for answer in asyncio.run(twice())] == ["fine", "fine"]
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_errors_that_pass_are_waited_out(server, tmp_path, status):
    server.first = [error(status), error(status)]
    server.answer = lambda request: completion("fine")
    assert ask(server, tmp_path) == "fine"
    assert len(server.requests) == 3
    pauses = [later - sooner for sooner, later in zip(server.times, server.times[1:], strict=False)]
    assert pauses[0] >= 0.3
    assert pauses[1] >= 0.6  # it grows


def test_retry_after_is_respected(server, tmp_path):
    server.first = [error(429, Retry_After="2")]
    server.answer = lambda request: completion("fine")
    assert ask(server, tmp_path) == "fine"
    assert server.times[1] - server.times[0] >= 2.0


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(500, "out of\nmemory"), r"judge at 127\.0\.0\.1: HTTP 500: .*out of memory.* \(asked up to 2 times"),
        (error(401, f"wrong key {KEY}"), r"HTTP 401: .*wrong key \[secret\]"),
        (error(404, "no such model"), "HTTP 404: .*no such model"),
    ],
)
def test_an_error_that_stays_is_one_line_without_the_key(server, tmp_path, reply, says):
    server.answer = lambda request: reply
    with pytest.raises(InputError, match=says) as caught:
        ask(server, tmp_path, retries=1)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert Cache(tmp_path).totals() == (0, 0)


def test_a_slow_answer_is_given_up_and_asked_again(server, tmp_path):
    server.delay = 2.0
    with pytest.raises(InputError, match=r"no answer within 0\.3 s \(asked up to 2 times"):
        ask(server, tmp_path, timeout=0.3, retries=1)
    assert len(server.requests) == 2


def test_no_server_at_all_is_one_line(tmp_path):
    nobody = Server(url="http://127.0.0.1:9/v1")
    with pytest.raises(InputError, match=r"judge at 127\.0\.0\.1: Connection error"):
        ask(nobody, tmp_path, retries=0)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_is_not_taken_is_refused_alone(server, tmp_path, status):
    server.answer = lambda request: error(status, "context too long")
    with pytest.raises(Refused, match="context too long"):
        ask(server, tmp_path)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((200, {}, "<html>busy</html>"), "not valid JSON"),
        ((200, {"Content-Type": "text/html"}, "<html>busy</html>"), "not valid JSON"),
        ((200, {}, "[" * 100_000), "nested more than 100 levels"),
        ((200, {}, '{"choices": [{"message": {"content": "\\ud800"}}]}'), "half of a surrogate pair"),
        ((200, {}, "{}"), "no chat completion"),
        ((200, {}, '{"choices": []}'), "no chat completion"),
        ((200, {}, '{"choices": [{"message": "hello"}]}'), "no chat completion"),
        ((200, {}, '{"choices": [{"message": {"content": 5}}]}'), "no chat completion"),
        *(
            (
                (200, {}, f'{{"choices": [{{"message": {{"content": "a"}}}}], "usage": {{"total_tokens": {tokens}}}}}'),
                says,
            )
            for tokens, says in (
                ('"9"', "tokens is 9, neither null nor an integer from 0"),
                ("100.0", "tokens is 100.0, neither null nor an integer from 0"),
                ("-1", "tokens is -1, neither"),
                ("true", "tokens is True, neither"),
                ("1" * 50, "tokens is 1{40}, neither"),
                ("7" * 400, "is too large"),
                ("7" * 5000, "is too large"),
                ("NaN", "NaN is no JSON number"),
            )
        ),
    ],
)
def test_a_body_that_is_no_completion_is_not_kept(server, tmp_path, reply, says):
    server.answer = lambda request: reply
    with pytest.raises(UnusableAnswer, match=says):
        ask(server, tmp_path)
    assert Cache(tmp_path).totals() == (0, 0)


def test_a_broken_cache_entry_is_named(server, tmp_path):
    server.answer = lambda request: completion("fine")
    ask(server, tmp_path)
    (entry,) = tmp_path.rglob("*.json")
    entry.write_text('{"reply": 5}')
    with pytest.raises(InputError, match=f"{entry.name}: is no answer of the judge"):
        ask(server, tmp_path)


# --- many pairs ------------------------------------------------------------------------------------------------


def test_both_orders_blind_and_the_method_keeps_its_scores(server, tmp_path):
    rows = judge(server, tmp_path)
    assert len(rows) == 2 * len(ITEMS)
    for row, judged in zip(rows, [item for item in ITEMS for _ in range(2)], strict=True):
        assert (row["prompt_id"], row["replies"]) == (judged.prompt_id, 1)
        assert row["method_score"] == len(judged.responses[0]) / 2
        assert row["baseline_score"] == 1.5
        assert json.loads(row["method_criteria"])["safety"] == row["method_score"]
    assert {row["method_first"] for row in rows[::2]} == {True, False}  # the first order is drawn
    assert all(a["method_first"] != b["method_first"] for a, b in zip(rows[::2], rows[1::2], strict=True))
    sent = json.dumps(server.requests)
    assert not any(name in sent for name in ("dpo", "hps", "sft", "baseline"))


def test_the_drawn_order_alone_is_half_the_cost(server, tmp_path):
    rows = judge(server, tmp_path, orders="drawn")
    assert len(server.requests) == len(rows) == len(ITEMS)
    assert [row["method_first"] for row in rows] == [method_first(item, "drawn", 0)[0] for item in ITEMS]
    assert rows == [row for row in judge(server, tmp_path)[::2]]


def test_equal_responses_tie_under_a_judge_that_prefers_the_first(server, tmp_path):
    server.answer = lambda request: completion(scores(4.0, 2.5))
    first, second = judge(server, tmp_path, [item(0, "same", "same")])
    assert first["method_score"] + second["method_score"] == first["baseline_score"] + second["baseline_score"]
    assert len(server.requests) == 1


def test_no_more_requests_at_once_than_allowed(server, tmp_path):
    server.delay = 0.05
    judge(server, tmp_path, concurrency=3)
    assert server.most_at_once == 3


@pytest.mark.parametrize(
    "nonsense", ["I like the first.", "", None, scores(9.0, 1.0), json.dumps({"response_a": {}}), "```json\n{\n```"]
)
def test_a_malformed_reply_is_asked_again(server, tmp_path, nonsense):
    server.first = [completion(nonsense)] * 3
    (row,) = judge(server, tmp_path, ITEMS[:1], orders="drawn")
    assert (row["replies"], row["method_score"], row["problem"]) == (4, 0.5, None)
    assert len({json.dumps(request) for request in server.requests}) == 4  # at temperature 0, the same would not help


def test_four_malformed_replies_are_invalid_and_not_a_tie(server, tmp_path):
    server.answer = lambda request: completion("both are nice")
    (row,) = judge(server, tmp_path, ITEMS[:1], orders="drawn")
    assert (row["method_score"], row["baseline_score"], row["replies"]) == (None, None, 4)
    assert "not valid JSON" in row["problem"]
    again = judge(server, tmp_path, ITEMS[:1], orders="drawn")
    assert again == [row]
    assert len(server.requests) == 4


def test_bodies_that_are_no_completion_count_as_malformed_replies(server, tmp_path):
    server.first = [(200, {}, "<html>"), (200, {}, "{}")]
    (row,) = judge(server, tmp_path, ITEMS[:1], orders="drawn")
    assert (row["replies"], row["method_score"]) == (3, 0.5)


def test_a_pair_that_the_endpoint_refuses_is_invalid_and_the_others_go_on(server, tmp_path):
    def answer(request):
        return error(400, "too long") if "question 3" in json.dumps(request) else by_length(request)

    server.answer = answer
    rows = judge(server, tmp_path)
    assert {row["prompt_id"] for row in rows if row["method_score"] is None} == {"p003"}
    assert "too long" in next(row["problem"] for row in rows if row["problem"])


def test_the_budget_of_requests_ends_with_one_line_and_goes_on_from_there(server, tmp_path):
    server.delay = 0.01
    with pytest.raises(InputError, match=r"judge\.max_requests: the limit of 10 is reached; 10 answers are kept in"):
        judge(server, tmp_path, max_requests=10)
    assert len(server.requests) == 9  # and the probe
    assert Cache(tmp_path).totals() == (10, 900)
    rows = judge(server, tmp_path, max_requests=25)
    assert len(server.requests) == len(rows) == 24


def test_the_budget_of_tokens(server, tmp_path):
    with pytest.raises(InputError, match=r"judge\.max_tokens: \d+ tokens used, 700 allowed"):
        judge(server, tmp_path, max_tokens=700)
    answers, tokens = Cache(tmp_path).totals()
    assert 7 <= answers - 1 <= 7 + LIMITS.concurrency - 1
    assert tokens == 100 * (answers - 1)
    server.answer = lambda request: completion(scores(1, 2), tokens=None)
    with pytest.raises(InputError, match=r"judge\.max_tokens: the endpoint does not say what it used"):
        judge(server, tmp_path / "other", max_tokens=700)


def test_what_was_under_way_when_the_endpoint_failed_is_kept(server, tmp_path):
    def answer(request):
        failing = "question 1" in json.dumps(request)
        time.sleep(0 if failing else 0.3)
        return error(401, "expired") if failing else by_length(request)

    server.answer = answer
    with pytest.raises(InputError, match="HTTP 401"):
        judge(server, tmp_path, ITEMS[:4], orders="drawn")
    assert Cache(tmp_path).totals()[0] == 1 + 3


# --- the form of request ---------------------------------------------------------------------------------------

AUTO = {"token_limit": "auto", "structured_output": "auto"}


def refusing(*words: str, says: str = "", status: int = 400):
    """A server that refuses requests which hold any of these fields."""

    def takes(request):
        held = [word for word in words if word in request]
        return error(status, says or f"Unsupported parameter: {held[0]}") if held else None

    return takes


@pytest.mark.parametrize(
    ("takes", "probes", "token_limit", "structured"),
    [
        (refusing(), 1, "max_tokens", True),
        (refusing("response_format"), 2, "max_tokens", False),
        (refusing("response_format", status=501), 2, "max_tokens", False),
        (
            refusing("max_tokens", says="Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
            2,
            "max_completion_tokens",
            True,
        ),
        (refusing("response_format", "max_tokens"), 3, "max_completion_tokens", False),
        (refusing("response_format", says="bad request"), 2, "max_tokens", False),
        (refusing("max_tokens", says="bad request"), 3, "max_completion_tokens", True),
    ],
)
def test_one_small_question_finds_what_the_server_takes(server, tmp_path, takes, probes, token_limit, structured):
    server.takes = takes
    rows = judge(server, tmp_path, retries=0, **AUTO)
    assert not any(row["problem"] for row in rows)
    assert len(server.probes) == probes
    assert len(server.requests) == len(rows)  # no pair met a refusal
    for request in server.requests:
        assert request[token_limit] == 200
        assert ("response_format" in request) is structured
        assert request["temperature"] == 0.0
    judge(server, tmp_path, retries=0, **AUTO)
    assert (len(server.probes), len(server.requests)) == (probes, len(rows))  # nor is anything asked twice


def test_the_schema_that_is_sent_is_the_one_that_replies_are_held_to(server, tmp_path):
    judge(server, tmp_path, ITEMS[:1], **AUTO)
    sent = server.requests[0]["response_format"]
    assert sent["type"] == "json_schema"
    schema = sent["json_schema"]["schema"]
    assert schema["properties"]["response_a"]["properties"]["safety"]["enum"] == [i / 2 for i in range(11)]
    assert schema["required"] == ["response_a", "response_b"]


def test_a_refused_temperature_is_named_before_any_pair_and_none_can_be_sent(server, tmp_path):
    server.takes = refusing("temperature", says="temperature does not support 0, only the default")
    with pytest.raises(InputError, match=r"refuses judge\.temperature 0 \(HTTP 400: .*null sends none"):
        judge(server, tmp_path, **AUTO)
    assert (len(server.probes), len(server.requests)) == (1, 0)
    rows = judge(server, tmp_path, temperature=None, **AUTO)
    assert not any("temperature" in request for request in server.requests)
    assert not any(row["problem"] for row in rows)


def test_a_refused_name_of_the_limit_that_is_set_is_one_line(server, tmp_path):
    server.takes = refusing("max_tokens")
    with pytest.raises(InputError, match=r"it refuses a first small request: HTTP 400: .*Unsupported parameter: max_t"):
        judge(server, tmp_path)
    assert not server.requests


# --- when all fails --------------------------------------------------------------------------------------------


def test_thoughts_before_the_scores_are_skipped(server, tmp_path):
    def thinking(request):
        status, headers, body = by_length(request)
        value = json.loads(body)
        value["choices"][0]["message"]["content"] = (
            "<think>A {is} it.</think>\n" + value["choices"][0]["message"]["content"]
        )
        value["choices"][0]["message"]["reasoning_content"] = "A, I think."
        return status, headers, json.dumps(value)

    server.answer = thinking
    assert [row["replies"] for row in judge(server, tmp_path)] == [1] * 24
    assert len(server.requests) == 24


def test_content_in_parts_is_joined(server, tmp_path):
    parts = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "fine"}]
    server.answer = lambda request: completion(parts)
    assert ask(server, tmp_path) == "fine"


def test_a_judge_that_never_answers_well_stops_after_a_few_pairs_and_can_be_asked_anew(server, tmp_path):
    server.answer = lambda request: completion("<think>Which is better? Well,")
    says = r"judge: none of the first 4 prompts got a valid judgement; the last: the reply: not valid JSON .*"
    with pytest.raises(InputError, match=f"{says}judge.structured_output .*kept in {tmp_path}; with judge.renew_inv"):
        judge(server, tmp_path)
    assert len(server.requests) == 4 * 2 * 4
    server.answer = by_length
    with pytest.raises(InputError, match=says):  # what was paid for is not thrown away unasked
        judge(server, tmp_path)
    assert len(server.requests) == 4 * 2 * 4
    rows = judge(server, tmp_path, renew_invalid=True)
    assert not any(row["problem"] for row in rows)
    assert len(server.requests) == 4 * 2 * 4 + 24
    assert judge(server, tmp_path) == rows
    assert len(server.requests) == 4 * 2 * 4 + 24


def test_what_is_invalid_now_is_not_asked_twice_by_renewing(server, tmp_path):
    server.answer = lambda request: completion("both are nice")
    (row,) = judge(server, tmp_path, ITEMS[:1], orders="drawn", renew_invalid=True)
    assert row["problem"]
    assert len(server.requests) == 4


def test_a_reply_that_the_limit_cut_off_says_so(server, tmp_path):
    def cut_off(request):
        status, headers, body = completion("<think>Let me see")
        return status, headers, body.replace('"stop"', '"length"')

    server.answer = cut_off
    (row,) = judge(server, tmp_path, ITEMS[:1], orders="drawn")
    assert row["problem"].startswith("the reply was cut off by judge.answer_tokens: ")


# --- limits on a reply -----------------------------------------------------------------------------------------


def test_a_reply_too_large_is_not_read_to_its_end(server, tmp_path):
    server.answer = lambda request: completion("x" * (50 << 20))
    with pytest.raises(UnusableAnswer, match="a reply of more than 4 MiB"):
        ask(server, tmp_path)
    assert len(server.requests) == 1
    assert Cache(tmp_path).totals() == (0, 0)


def test_a_reply_that_trickles_in_ends_in_time(server, tmp_path):
    server.answer, server.trickle = lambda request: completion("fine"), 0.1
    began = time.monotonic()
    with pytest.raises(InputError, match=r"no answer within 0\.5 s"):
        ask(server, tmp_path, timeout=0.5, retries=0)
    assert time.monotonic() - began < 3


def test_a_redirect_is_not_followed(server, tmp_path):
    server.answer = lambda request: (307, {"Location": "http://127.0.0.1:9/v1"}, "")
    with pytest.raises(InputError, match="HTTP 307"):
        ask(server, tmp_path)


def test_a_key_that_a_server_repeats_is_masked_in_every_spelling(server, tmp_path):
    key = "sk+very/secret\\'=0123"
    spelt = [
        key, repr(key), json.dumps(key), quote(key, safe=""), quote(key, safe="").lower(), quote_plus(key),
        html.escape(key), *(base64.b64encode(f"{p}{key}".encode()).decode() for p in ("", "Bearer ", ":")),
        base64.urlsafe_b64encode(key.encode()).decode(),
    ]  # fmt: skip
    for text in spelt:
        server.answer = lambda request, text=text: error(401, f"wrong key <{text}>")
        bad = Client(Endpoint(server.url, "judge-1", key), Cache(tmp_path), LIMITS)
        with pytest.raises(InputError) as caught:
            asyncio.run(bad.ask(ASKED))
        assert "[secret]" in str(caught.value)
        assert "0123" not in str(caught.value)
        assert text.strip("\"'=") not in str(caught.value)
