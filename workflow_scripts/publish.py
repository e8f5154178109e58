"""Send a folder to a model repository on the Hugging Face hub, as one commit.

HF_TOKEN=... python workflow_scripts/publish.py --folder results/paper/publication --repo me/hps --private
"""

import logging
from dataclasses import dataclass

from hps.models import hub
from hps.support import cli, provenance
from hps.support.cli import argument
from hps.support.settings import taken_by


@dataclass(kw_only=True)
class Arguments(taken_by("publish")):
    folder: str = argument("what to send, as publication.py lays it out")


def main(arguments: Arguments) -> None:
    message = f"HPS-Replica {provenance.code_version()}"
    commit = hub.publish(arguments.folder, arguments.repo, private=arguments.private, message=message)
    logging.info("%s: published as %s", arguments.repo, commit)


if __name__ == "__main__":
    cli.run(main, Arguments, network=True)
