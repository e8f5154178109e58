"""What all commands share: typed arguments from a dataclass, logging, and one line for bad input."""

import gc
import logging
import sys
from collections.abc import Callable
from dataclasses import field
from typing import Any, TypeVar

from argparse_dataclass import ArgumentParser

from hps.models import offline
from hps.support import secrets
from hps.support.errors import InputError

Arguments = TypeVar("Arguments")
REQUIRED: Any = object()


def argument(help: str, default: Any = REQUIRED, **metadata: Any) -> Any:
    """A command's argument as a dataclass field: `--the-name`, typed by its annotation.

    A list takes several values (`nargs="*"`). Without a default the argument is required.
    """
    metadata["help"] = help
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata={"nargs": "*"} | metadata)
    return field(metadata=metadata) if default is REQUIRED else field(default=default, metadata=metadata)


def run(main: Callable[[Arguments], None], arguments: type[Arguments], *, network: bool = False) -> None:
    """Parse the command line into `arguments`, call `main` with it; bad input ends in one line and exit code 1.

    Without `network` the Hugging Face hub is out of reach, and a request to it is such bad input too.
    """
    if not network:
        offline.enforce()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(secrets.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[log])
    sys.excepthook = secrets.print_traceback
    # torch and transformers make millions of objects that stay; looking through them again and again for garbage is a
    # fifth of a job's start-up.
    gc.set_threshold(100_000)
    module = sys.modules[main.__module__]
    parser = ArgumentParser(arguments, description=(module.__doc__ or "").strip().splitlines()[0])
    try:
        main(parser.parse_args())
    except InputError as error:
        sys.exit(secrets.masked(f"error: {error}"))
    except (OSError, ValueError) as error:  # what the hub's client, and libraries around it, raise offline
        if refusal := offline.refused(error):
            sys.exit(secrets.masked(f"error: {refusal}"))
        raise
