"""Self-contained HTML pages with a script: no server, no network, and text that cannot become anything else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def self_contained(folder: str | Path, data: Mapping[str, Any]) -> str:
    """`page.html` of the folder with its `page.css`, its `page.js`, and the data that the script reads.

    Texts travel as JSON in which `<` is escaped, so none can close the element that holds it, and the scripts make
    text nodes of them. As a second fence the page's policy allows its own script and style, by hash, and nothing else:
    no other script runs and nothing is loaded or sent.
    """
    page, style, script = (
        (Path(folder) / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    policy += "; base-uri 'none'; form-action 'none'"
    # The data last: no text in it is taken for a mark.
    for mark, content in (("POLICY", policy), ("STYLE", style), ("SCRIPT", script), ("DATA", text)):
        page = page.replace(f"@@{mark}@@", content, 1)
    return page


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
