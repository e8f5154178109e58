"""Write the resolved configuration, each value with the layer it comes from.

python workflow_scripts/resolve_config.py --given '{"preset": "tiny", "protocol": "paper", ...}' --out config.json
"""

import json
from dataclasses import dataclass
from pathlib import Path

from hps.support import cli
from hps.support.cli import argument
from hps.support.files import write_json
from hps.workflow import config


@dataclass(kw_only=True)
class Arguments:
    given: str = argument("config.yaml with the command line over it, as JSON")
    out: str = argument("resolved configuration (JSON): values, and origins by dotted key")


def main(arguments: Arguments) -> None:
    resolved = config.load(Path(__file__).parents[1], json.loads(arguments.given))
    write_json(arguments.out, {"values": resolved.values, "origins": resolved.origins})


if __name__ == "__main__":
    cli.run(main, Arguments)
