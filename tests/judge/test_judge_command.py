"""judge.py: its environment, what it writes and what it keeps to itself, and a run that is cut off."""

import logging
import signal
import subprocess
import sys
import time

import judge as judge_command
import pytest
from conftest import SCRIPTS, called, python_environment
from hub_server import COMMIT, NEWER
from judge_files import HPS, command, policy
from judge_server import Server, completion, error, serving

from hps.judge.cache import Cache
from hps.judge.client import Endpoint, endpoint_from
from hps.judge.comparisons import pair, read_policy
from hps.judge.served import served_commit
from hps.models import hub_lock
from hps.support import cli
from hps.support.errors import InputError
from hps.support.files import read_json, read_table

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server():
    with serving() as running:
        yield running


def test_all_missing_variables_are_named_at_once():
    names = ("HPS_JUDGE_URL", "HPS_JUDGE_MODEL", "HPS_JUDGE_KEY")
    with pytest.raises(InputError, match=r"^HPS_JUDGE_URL, HPS_JUDGE_KEY: not set"):
        endpoint_from({"HPS_JUDGE_MODEL": "m", "HPS_JUDGE_KEY": ""}, *names)
    with pytest.raises(InputError, match="HPS_JUDGE_URL: is no URL"):
        endpoint_from(dict.fromkeys(names, "localhost"), *names)
    endpoint = endpoint_from(dict(zip(names, ("http://u:p@h:1/v1\n", " m\r\n", f"{KEY}\r\n"), strict=True)), *names)
    assert endpoint == Endpoint("http://u:p@h:1/v1", "m", KEY)
    assert endpoint.host == "h"
    assert repr(endpoint) == "Endpoint(model='m')"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        *(
            ("HPS_JUDGE_URL", url, "is no URL of the form http://host:port/v1")
            for url in (
                "localhost:8000", "ftp://h/v1", "http://", "http://h:99999/v1", "http://h:0/v1", "http://h:x/v1",
                "http://héé/v1", "http://h/v 1", "http://h/\n/v1", "http://[::1/v1", "http://h/é", "http:///v1",
            )
        ),
        ("HPS_JUDGE_MODEL", "a\nb", "holds a character that no model's name has"),
        ("HPS_JUDGE_KEY", "sk-very\r\nX-Header: secret", "holds a character that no key has"),
        ("HPS_JUDGE_KEY", "sk-vèry-secret", "holds a character that no key has"),
        ("HPS_JUDGE_KEY", "sk-very secret", "holds a character that no key has"),
        ("HPS_JUDGE_KEY", " \r\n", "not set"),
    ],
)  # fmt: skip
def test_a_bad_variable_is_one_line_before_anything_is_asked(server, tmp_path, monkeypatch, caplog, name, value, says):
    with pytest.raises(SystemExit, match=f"^error: {name}: {says}") as caught:
        run_in_process(monkeypatch, command(tmp_path, 1), environment(server) | {name: value})
    assert not server.probes + server.requests
    assert not (tmp_path / "judge").exists()
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value) + caplog.text


def test_a_crash_shows_no_key(tmp_path):
    program = (
        "import sys; from hps.support import cli, secrets; import judge\n"
        "def main(arguments): raise RuntimeError('Illegal header: ' + secrets.read('KEY', 'sk-very-secret\\r'))\n"
        "main.__module__ = 'judge'; sys.argv = ['judge.py', *sys.argv[1:]]; cli.run(main, judge.Arguments)"
    )
    done = called("-c", program, *command(tmp_path), folder=SCRIPTS)
    assert done.returncode == 1
    assert "RuntimeError: Illegal header: [secret]" in done.stderr
    assert "very-secret" not in done.stderr


def environment(server: Server) -> dict[str, str]:
    return {"HPS_JUDGE_URL": server.url, "HPS_JUDGE_MODEL": "judge-1", "HPS_JUDGE_KEY": KEY}


def run_in_process(monkeypatch, words: list[str], variables: dict[str, str]) -> None:
    for name in ("HPS_JUDGE_URL", "HPS_JUDGE_MODEL", "HPS_JUDGE_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["judge.py", *words])
    cli.run(judge_command.main, judge_command.Arguments)


def test_the_command_and_that_the_key_is_nowhere(server, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    server.first = [error(500)]
    run_in_process(monkeypatch, command(tmp_path), environment(server))
    facts = read_json(tmp_path / "judge/judge.json")
    assert (facts["model"], facts["host"], facts["answers"], facts["tokens"]) == ("judge-1", "127.0.0.1", 25, 2400)
    assert (facts["pairs"], facts["judgements"], facts["invalid"]) == (12, 24, 0)
    assert facts["commit"] is None
    assert (facts["token_limit"], facts["structured"], facts["temperature"]) == ("max_tokens", True, None)
    assert "judge-1: which commit serves is not known" in caplog.text
    rows = read_table(tmp_path / "judge/judgements.parquet")
    assert [row["method_score"] for row in rows[::2]] == [(i % 4 + 1) / 2 for i in sorted(range(12), key=str)]
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in written
    assert KEY not in caplog.text


@pytest.fixture
def lock(tmp_path) -> str:
    """A lock file that pins owner/judge."""
    path = str(tmp_path / "hub.lock.yaml")
    hub_lock.write(path, {("model", "owner/judge"): hub_lock.Snapshot("model", "owner/judge", COMMIT, "", {})})
    return path


@pytest.mark.parametrize(
    ("model", "commit"),
    [
        (f"owner/judge@{COMMIT}", COMMIT),
        (f"other/judge@{NEWER}", NEWER),
        ("owner/judge", None),
        ("owner/judge@main", None),
        ("claude@20240229", None),
        (COMMIT, None),
    ],
)
def test_the_commit_that_serves_is_what_the_servers_name_says(lock, model, commit):
    assert served_commit(model) == served_commit(model, lock) == commit


def test_the_judges_commit_is_recorded(server, lock, tmp_path, monkeypatch):
    named = environment(server) | {"HPS_JUDGE_MODEL": f"owner/judge@{COMMIT}"}
    run_in_process(monkeypatch, [*command(tmp_path), "--lock", lock], named)
    facts = read_json(tmp_path / "judge/judge.json")
    assert (facts["model"], facts["commit"]) == (f"owner/judge@{COMMIT}", COMMIT)
    assert {request["model"] for request in server.requests} == {f"owner/judge@{COMMIT}"}


def test_a_judge_at_another_commit_than_the_pinned_is_refused_before_it_is_asked(server, lock, tmp_path, monkeypatch):
    named = environment(server) | {"HPS_JUDGE_MODEL": f"owner/judge@{NEWER}"}
    refused = f"error: owner/judge@{NEWER}: .*hub.lock.yaml pins owner/judge at {COMMIT}; serve that one, or renew"
    with pytest.raises(SystemExit, match=refused):
        run_in_process(monkeypatch, [*command(tmp_path), "--lock", lock], named)
    assert not server.requests
    assert not (tmp_path / "judge").exists()


def test_without_variables_the_command_writes_nothing(tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="error: HPS_JUDGE_URL, HPS_JUDGE_MODEL, HPS_JUDGE_KEY: not set"):
        run_in_process(monkeypatch, command(tmp_path), {})
    assert not (tmp_path / "judge").exists()


def test_a_judge_without_one_valid_judgement_is_no_table(server, tmp_path, monkeypatch):
    server.answer = lambda request: completion("hm")
    with pytest.raises(
        SystemExit, match=r"error: judge: none of the first 4 prompts got a valid judgement; .*renew_inv"
    ):
        run_in_process(monkeypatch, command(tmp_path), environment(server))
    assert not (tmp_path / "judge").exists()


def test_a_killed_run_goes_on_without_paying_twice(server, tmp_path):
    server.delay = 0.1
    words = [sys.executable, str(SCRIPTS / "judge.py"), *command(tmp_path)]
    variables = python_environment(**environment(server))
    process = subprocess.Popen(words, env=variables, stderr=subprocess.DEVNULL)
    while len(server.requests) < 8:
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept, _ = Cache(tmp_path / "cache").totals()  # every entry is whole
    sent = len(server.requests)
    assert sent - 2 <= kept < 24
    assert not (tmp_path / "judge").exists()
    subprocess.run(words, env=variables, check=True, capture_output=True)
    assert len(server.requests) - sent == 24 + 1 - kept  # the probe is kept too
    assert read_json(tmp_path / "judge/judge.json")["judgements"] == 24


def test_true_reward_needs_no_endpoint(tmp_path, monkeypatch):
    words = [*command(tmp_path)[:-1], "true_reward", "--samples", "2"]
    run_in_process(monkeypatch, words, {})
    rows = read_table(tmp_path / "judge/judgements.parquet")
    assert len(rows) == 24
    assert {row["baseline_score"] for row in rows} == {3.0, 3.5}  # true rewards 1 and 2 on a scale from -5 to 5


def test_pairs_that_are_not_fair_are_refused(tmp_path):
    prompts = {f"p{i}": [] for i in range(2)}
    hps = read_policy(policy(tmp_path / "hps", HPS, [["a"], ["b"]]), 1)
    fair = read_policy(policy(tmp_path / "sft", None, [["c"], ["d"]]), 1)
    assert [item.responses for item in pair(hps, fair, prompts)] == [("a", "c"), ("b", "d")]
    for name, run, texts, test_set, says in (
        ("other", None, [["c"], ["d"]], "pku_saferlhf", "no fair pair"),
        ("seed", HPS | {"loss": "bt", "seed": 1}, [["c"], ["d"]], "hh_rlhf", "no fair pair"),
        ("prompts", None, [["c"]], "hh_rlhf", "evaluated on other prompts"),
    ):
        with pytest.raises(InputError, match=says):
            pair(hps, read_policy(policy(tmp_path / name, run, texts, test_set), 1), prompts)
    with pytest.raises(InputError, match="1 prompts are not in the test set's file, such as p1"):
        pair(hps, fair, {"p0": []})
    with pytest.raises(InputError, match="prompt p0 has not the first 2 samples"):
        read_policy(tmp_path / "hps", 2)
    with pytest.raises(InputError, match=r"gone/evaluation\.json: missing"):
        read_policy(tmp_path / "gone", 1)
