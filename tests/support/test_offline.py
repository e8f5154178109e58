"""Only the commands that fetch may ask the hub; in any other a request ends at once, in one line."""

import re
import subprocess
import sys
import time

import pytest
from conftest import SCRIPTS
from hub_server import Repo, last_line, serving

STAGE = """
from dataclasses import dataclass
from hps.support import cli

@dataclass
class Arguments:
    pass

def main(arguments):
    {body}

cli.run(main, Arguments)
"""
ACCIDENTS = {
    "file": "from huggingface_hub import hf_hub_download as get; get('owner/model', 'config.json')",
    "information": "from huggingface_hub import HfApi; HfApi().model_info('owner/model')",
    "snapshot": "from huggingface_hub import snapshot_download as get; get('owner/model')",
    "information, the client imported before": "HfApi().model_info('owner/model')",
    "tokenizer": "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('owner/model')",
}


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_an_accidental_request_is_one_line_with_the_command_that_fetches(tmp_path, accident):
    before = "from huggingface_hub import HfApi" if "imported before" in accident else ""
    (tmp_path / "stage.py").write_text(f'"""A stage."""\n{before}{STAGE.format(body=ACCIDENTS[accident])}')
    with serving({"owner/model": Repo({"config.json": b"{}"})}) as server:
        environment = server.environment(tmp_path / "cache", PYTHONPATH=str(SCRIPTS))
        begin = time.monotonic()
        command = [sys.executable, str(tmp_path / "stage.py")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        seconds = time.monotonic() - begin
        assert not server.asked  # HF_HUB_OFFLINE=0 in the environment, and still nothing was sent
    line = last_line(done)
    assert line.startswith("error: owner/model")
    assert line.endswith(
        ": not on this machine, and jobs do not ask the hub; "
        "where there is network, `snakemake --cores 1 fetch` (with the same --config) downloads it"
    )
    assert seconds < 60  # no waiting for a network that is not there


def test_any_other_error_keeps_its_traceback(tmp_path):
    body = "import huggingface_hub; open('no/such/file')"
    (tmp_path / "stage.py").write_text(f'"""A stage."""\n{STAGE.format(body=body)}')
    with serving({}) as server:
        environment = server.environment(tmp_path / "cache", PYTHONPATH=str(SCRIPTS))
    done = subprocess.run([sys.executable, tmp_path / "stage.py"], env=environment, capture_output=True, text=True)
    assert done.stderr.startswith("Traceback")
    assert "FileNotFoundError" in done.stderr


def test_five_commands_have_network():
    calls = {path.stem: re.findall(r"cli\.run\((.*)\)", path.read_text()) for path in SCRIPTS.glob("*.py")}
    assert {name for name, found in calls.items() if found == ["main, Arguments, network=True"]} == {
        "fetch_model", "fetch_published", "download", "pin", "publish",
    }  # fmt: skip
    assert calls.pop("report") == []  # `cli.run_part`, which has no network
    assert all(found in (["main, Arguments"], ["main, Arguments, network=True"]) for found in calls.values())
