"""Self-contained HTML pages with a script: no server, no network, and text that cannot become anything else."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="@@POLICY@@">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>@@TITLE@@</title>
<style>@@STYLE@@</style>
</head>
<body>
@@BODY@@<noscript><p>This page needs JavaScript. It loads nothing from anywhere.</p></noscript>
<script type="application/json" id="data">@@DATA@@</script>
<script>@@SCRIPT@@</script>
</body>
</html>
"""


def self_contained(folder: str | Path, title: str, data: Mapping[str, Any]) -> str:
    """A page with what `page.html` of the folder says, its `page.css`, its `page.js`, and the data for the script.

    Texts travel as JSON in which `<` is escaped, so none can close the element that holds it, and the scripts make
    text nodes of them. As a second fence the page's policy allows its own script and style, by hash, and nothing else:
    no other script runs and nothing is loaded or sent.
    """
    body, style, script = (
        (Path(folder) / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", "page.js")
    )
    text = json.dumps(data, ensure_ascii=False, allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    policy += "; base-uri 'none'; form-action 'none'"
    page, parts = PAGE, {"TITLE": title, "BODY": body, "POLICY": policy, "STYLE": style, "SCRIPT": script, "DATA": text}
    for mark, content in parts.items():  # the data last: no text in it is taken for a mark
        page = page.replace(f"@@{mark}@@", content, 1)
    return page


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
