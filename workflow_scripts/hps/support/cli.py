"""What all commands share: typed arguments from a dataclass, logging, and one line for bad input."""

import gc
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, TypeVar

from hps.support import files, offline, secrets
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
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(metadata=metadata) if default is REQUIRED else field(default=default, metadata=metadata)


def run_part(parts: Mapping[str, tuple[Callable[[Any], None], type]], words: Sequence[str]) -> None:
    """`run` the part of a command that the first of its `words` names, with the others.

    A part's function says in its docstring what it makes.
    """
    main, arguments = parts.get(words[0] if words else "", (None, None))
    if main is None:
        described = "\n".join(
            f"  {name:10} {(part.__doc__ or '').splitlines()[0]}" for name, (part, _) in parts.items()
        )
        asked = not words or words[0] in ("-h", "--help")
        print(f"The parts; PART --help says more:\n{described}", file=sys.stdout if asked else sys.stderr)
        sys.exit(0 if asked else f"error: no part {words[0]!r}")
    run(main, arguments, description=main.__doc__, words=words[1:])


def run(
    main: Callable[[Arguments], None],
    arguments: type[Arguments],
    *,
    network: bool = False,
    description: str | None = None,
    words: Sequence[str] | None = None,
) -> None:
    """Parse the command line into `arguments`, call `main` with it; bad input ends in one line and exit code 1.

    `words` stand in for the command line, and `description` for the first line of the module's docstring. Without
    `network` the Hugging Face hub is out of reach, and a request to it is such bad input too.
    """
    # Not above: who only declares arguments, as the shape of a model does, needs it not.
    from argparse_dataclass import ArgumentParser

    if not network:
        offline.enforce()
    log = logging.StreamHandler(sys.stderr)
    log.setFormatter(secrets.Formatter("%(asctime)s %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[log])
    sys.excepthook = secrets.masking(sys.excepthook)
    # torch and transformers make millions of objects that stay; looking through them again and again for garbage is a
    # fifth of a job's start-up.
    gc.set_threshold(100_000)
    description = description or sys.modules[main.__module__].__doc__ or ""
    parser = ArgumentParser(arguments, description=description.strip().splitlines()[0])
    try:
        main(parser.parse_args(words))
    except InputError as error:
        sys.exit(secrets.masked(f"error: {error}"))
    except (OSError, ValueError) as error:  # what the hub's client, and libraries around it, raise offline
        if refusal := offline.refused(error):
            sys.exit(secrets.masked(f"error: {refusal}"))
        if reason := files.unwritable(error):  # what `files.writing` does not write: logs, caches of libraries
            sys.exit(f"error: {getattr(error, 'filename', None) or 'writing'}: {reason}")
        raise
