"""Keys and tokens: read with care, and out of all that is printed."""

from __future__ import annotations

import base64
import html
import io
import json
import logging
import re
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any
from urllib.parse import quote, quote_plus

from hps.support.errors import InputError

SHORTEST = 6
"""Characters of a secret that is worth hiding. Servers without one take any word, such as `none` or `EMPTY`."""
VISIBLE = re.compile(r"[!-~]+")
"""What a header or a URL can hold."""
_spellings: set[str] = set()


def read(name: str, value: str) -> str:
    """The secret `value` of the variable `name` without the white space around it, hidden by `masked` from now on.

    Raises InputError, which does not show it, for one that no HTTP header can hold.
    """
    secret = value.strip()
    if not VISIBLE.fullmatch(secret):
        raise InputError(name, "holds a character that no key has: only visible ASCII characters, and no space")
    hide(secret)
    return secret


def hide(secret: str) -> None:
    """Have `masked` find a secret in the ways in which clients, servers and Python spell it."""
    if len(secret) < SHORTEST:
        return
    encoded = [base64.b64encode(f"{prefix}{secret}".encode()).decode().rstrip("=") for prefix in ("", ":", "Bearer ")]
    percent = [quote(secret, safe=""), quote(secret), quote_plus(secret)]
    percent += [re.sub("%..", lambda match: match[0].lower(), spelt) for spelt in percent]
    shown = [repr(secret)[1:-1], repr(secret.encode())[2:-1], json.dumps(secret)[1:-1], html.escape(secret)]
    url_safe = [code.translate(str.maketrans("+/", "-_")) for code in encoded]
    _spellings.update((secret, *encoded, *percent, *shown, *url_safe))


def masked(text: str) -> str:
    """`text` with `[secret]` in place of everything that was hidden."""
    for spelt in sorted(_spellings, key=len, reverse=True):
        text = text.replace(spelt, "[secret]")
    return text


class Formatter(logging.Formatter):
    """Log lines, and the tracebacks in them, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def masking(hook: Callable[..., Any]) -> Callable[..., None]:
    """An excepthook that shows what `hook` shows, without secrets."""

    def show(*error: Any) -> None:
        with redirect_stderr(io.StringIO()) as text:
            hook(*error)
        sys.stderr.write(masked(text.getvalue()))

    return show
