"""Make the Snakemake report of finished tables, figures and overviews.

    python workflow_scripts/make_report.py --given '{"preset": "tiny", "protocol": "paper", ...}' --out report.html

Snakemake writes a report about a finished workflow, so this asks a second one, which only reads, for the tables,
figures and overviews that its caller has just completed.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hps.support import cli
from hps.support.cli import argument
from hps.support.files import writing

STYLESHEET = "report/style.css"


@dataclass(kw_only=True)
class Arguments:
    given: str = argument("config.yaml with the command line over it, as JSON")
    out: str = argument("report (HTML)")


def main(arguments: Arguments) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as given, writing(arguments.out) as partial:
        json.dump(json.loads(arguments.given), given)
        given.flush()
        html = partial.with_suffix(".html")  # Snakemake goes by the ending
        try:
            subprocess.run(
                [
                    *(sys.executable, "-m", "snakemake", "report_contents", "--nolock", "--cores", "1"),
                    *("--configfile", given.name, "--report", str(html)),
                    *("--report-stylesheet", STYLESHEET),
                ],
                check=True,
                cwd=Path.cwd(),
            )
            html.rename(partial)
        finally:
            html.unlink(missing_ok=True)


if __name__ == "__main__":
    cli.run(main, Arguments)
