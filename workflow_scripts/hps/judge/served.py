"""Which commit of the judge's repository serves, as far as the server says."""

from __future__ import annotations

import logging
import re

from hps.models import hub_lock
from hps.support.errors import InputError

_AT_COMMIT = re.compile(r"(?P<repo>[^@\s]+/[^@\s]+)@(?P<commit>[0-9a-f]{40})")


def served_commit(model: str, lock: str = "") -> str | None:
    """The commit in a model's name of the form owner/name@commit; None where the name has none, which is logged.

    The name is the one that the server goes by (slurm/serve_judge.sh takes the commit from the fetched folder), and
    servers refuse requests for another one: so it holds for every answer, without access to the server's files.

    Args:
        model: what requests call the model.
        lock: path of the lock file; empty: none.

    Raises:
        InputError: the lock file pins another commit of that repository.
    """
    named = _AT_COMMIT.fullmatch(model)
    if named is None:
        logging.warning("%s: which commit serves is not known; a name of the form owner/name@commit says it", model)
        return None
    pinned = hub_lock.read(lock).get(("model", named["repo"])) if lock else None
    if pinned and pinned.commit != named["commit"]:
        raise InputError(
            model, f"{lock} pins {named['repo']} at {pinned.commit}; serve that one, or renew the pin: `snakemake pin`"
        )
    return named["commit"]
