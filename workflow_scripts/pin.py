"""Ask the Hugging Face hub for the commit, file sizes and hashes of each repository, and write them to a lock file.

    python workflow_scripts/pin.py --lock config/hub.lock.yaml --wanted '[{"kind": "model",
        "repo": "Skywork/Skywork-Reward-Llama-3.1-8B-v0.2", "revision": "", "patterns": ["*.json", "*.safetensors"]}]'

Entries of other repositories stay. Where a revision is given, that is pinned, else the newest commit. `snakemake pin`
runs this for the repositories of the configuration.
"""

import json
import logging
from dataclasses import dataclass

from hps.models import hub, hub_lock
from hps.models.hub_lock import Snapshot, Wanted
from hps.support import cli
from hps.support.cli import argument


@dataclass
class Arguments:
    wanted: str = argument("repositories, as a JSON list of {kind, repo, revision, patterns}")
    lock: str = argument("lock file to write, merged with what it holds")


def main(arguments: Arguments) -> None:
    lock = hub_lock.read(arguments.lock)
    asked = [Wanted(**one | {"patterns": tuple(one["patterns"])}) for one in json.loads(arguments.wanted)]
    # All are asked before anything is written, so that a failure leaves the file as it was.
    for wanted in hub_lock.merged(asked):
        before = lock.get((wanted.kind, wanted.repo))
        # What another configuration has pinned of this repository stays pinned, at the new commit.
        after = hub.listing(wanted, also=before.files if before else ())
        lock[wanted.kind, wanted.repo] = after
        logging.info("%s: %s, %d files", wanted.repo, _what_changed(before, after), len(after.files))
    hub_lock.write(arguments.lock, lock)


def _what_changed(before: Snapshot | None, after: Snapshot) -> str:
    if before is None:
        return f"pinned at {after.commit}"
    return f"still at {after.commit}" if before.commit == after.commit else f"{before.commit} is now {after.commit}"


if __name__ == "__main__":
    cli.run(main, Arguments, network=True)
