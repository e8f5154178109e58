"""Rows of a data set on the Hugging Face hub, or in a local folder laid out like one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hps.errors import InputError

Rows = Iterator[tuple[str, dict[str, Any]]]


def rows(repo: str, revision: str, data_dir: str, part: str) -> tuple[Rows, list[str]]:
    """The rows of one split of a repository, and the addresses of the files they come from.

    Args:
        repo: `owner/name` on the hub, or a local folder.
        data_dir: folder inside the repository; empty for its default configuration.
        part: `train` or `test`.

    Returns:
        `("hub:repo/data_dir/part:row", row)` pairs, rows counted from 1; the resolved file addresses, which contain
        the commit when they are on the hub.

    Raises:
        InputError: the repository, folder, revision or split is not there, cannot be reached or cannot be read.
    """
    import datasets  # here, since a run from files does not need it

    name = "/".join(filter(None, (f"hub:{repo}", data_dir, part)))
    try:
        builder = datasets.load_dataset_builder(repo, data_dir=data_dir or None, revision=revision)
        builder.download_and_prepare()
        data = builder.as_dataset(split=part)
    except (datasets.exceptions.DatasetsError, OSError, EOFError, ValueError) as error:
        reason = f"{error} ({error.__cause__})" if error.__cause__ else str(error)
        raise InputError(name, " ".join(reason.split())) from error
    return ((f"{name}:{number}", row) for number, row in enumerate(data, 1)), sorted(builder.config.data_files[part])
