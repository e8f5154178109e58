"""Only what fetches asks the Hugging Face hub; every other command runs offline, as compute nodes do."""

from __future__ import annotations

import os
import sys
import traceback

FETCH = "`snakemake --cores 1 fetch` (with the same --config)"
"""The command that downloads all models and data of a run, for messages."""


def enforce() -> None:
    """Make the hub's client, and whatever uses it here or in child processes, refuse every request.

    Set here and not in a rule or profile, it also holds for jobs of a cluster, in conda shells and containers, and for
    commands run by hand.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    # The client reads the variable when it is imported, which may have happened already.
    if "huggingface_hub" in sys.modules:
        sys.modules["huggingface_hub"].constants.HF_HUB_OFFLINE = True


def refused(error: BaseException) -> str:
    """One line for an error that comes from a refused request, naming what was asked for; empty for any other."""
    if "huggingface_hub" not in sys.modules:
        return ""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    chain = [error]
    while (link := chain[-1].__cause__ or chain[-1].__context__) and link not in chain:
        chain.append(link)
    if not any(isinstance(link, OfflineModeIsEnabled | LocalEntryNotFoundError) for link in chain):
        return ""
    what = _repository(chain) or " ".join(str(error).split())
    return f"{what}: not on this machine, and jobs do not ask the hub; where there is network, {FETCH} downloads it"


def _repository(chain: list[BaseException]) -> str:
    """Repository and file of the request, from the client's own arguments: the libraries' messages do not name them."""
    for link in chain:
        for frame, _ in traceback.walk_tb(link.__traceback__):
            repo, file = frame.f_locals.get("repo_id"), frame.f_locals.get("filename")
            if isinstance(repo, str):
                return f"{repo}/{file}" if isinstance(file, str) else repo
    return ""
