"""One self-contained HTML page a rater."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hps.support.html_page import self_contained
from hps.user_study.design import CRITERIA, FORMAT, SCALE


def render(shown: Mapping[str, Any]) -> str:
    """The page of one rater, from what `design` says it shows."""
    criteria = [{"name": name, "question": question} for name, question in CRITERIA.items()]
    data = {"format": FORMAT, "criteria": criteria, "scale": list(SCALE), **shown}
    return self_contained(Path(__file__).parent, "Rating responses", data)
