"""Only what fetches asks the Hugging Face hub; every other command runs offline, as compute nodes do."""

from __future__ import annotations

import os
import re
import sys

FETCH = "`snakemake --cores 1 fetch` (with the same --config)"
"""The command that downloads all models and data of a run, for messages."""


def enforce() -> None:
    """Make the hub's client, and whatever uses it here or in child processes, refuse every request.

    It reads the variable when it is imported, so this comes first. Set here and not in a rule or profile, it also
    holds for jobs of a cluster, in conda shells and containers, and for commands run by hand.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"


def refused(error: BaseException) -> str:
    """One line for an error that comes from a refused request, naming what was asked for; empty for any other."""
    if "huggingface_hub" not in sys.modules:
        return ""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    chain = [error]
    while (link := chain[-1].__cause__ or chain[-1].__context__) and link not in chain:
        chain.append(link)
    refusals = [str(link) for link in chain if isinstance(link, OfflineModeIsEnabled | LocalEntryNotFoundError)]
    if not refusals:
        return ""
    asked = next((url[0] for words in refusals if (url := re.search(r"https?://\S+[^\s:.,]", words))), "")
    what = asked or " ".join(str(error).split()) or "a file of the hub"
    return f"{what}: not on this machine, and jobs do not ask the hub; where there is network, {FETCH} downloads it"
