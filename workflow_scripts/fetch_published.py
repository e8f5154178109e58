"""Fetch a policy that others trained and put on the hub: an adapter on the policy's base, or a whole model.

    python workflow_scripts/fetch_published.py --repo owner/name --policy results/paper/models/policy \\
        --lock config/hub.lock.yaml --out results/paper/published/authors

It enters as other models do (`fetch_model.py`). What cannot be compared with our policies is refused: an adapter on
another base, a model with another vocabulary.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("fetch_published")):
    policy: str = argument("model folder of the policy before training")
    lock: str = argument("file of pinned commits (hub.lock.yaml); what it pins is taken and verified", "")
    out: str = argument("folder to write")


def main(arguments: Arguments) -> None:
    from hps.models import fetch

    fetch.from_hub(
        Path(arguments.out),
        {"role": "published", "provenance": provenance.collect(asdict(arguments), [arguments.policy])},
        arguments.repo,
        arguments.revision,
        arguments.lock,
        arguments.folder,
        Path(arguments.policy),
    )
    logging.info("%s: from %s", arguments.out, arguments.repo)


if __name__ == "__main__":
    cli.run(main, Arguments, network=True)
