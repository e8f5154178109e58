"""What the documentation names exists: files in backticks, and targets of links."""

import re
import subprocess

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), ROOT / "config/README.md"]
OF_THE_RELEASED_CODE = {"run_dpo.py", "gen_hf2.py", "get_rewards.py", "eval_score.py", "gene.sh"}


def files() -> list[str]:
    """Paths of the checkout's files, below `/`, so that a path's end can be looked for."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=False)
    found = done.stdout.split() or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.*")]
    return [f"/{path}" for path in found]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    text, known = page.read_text(encoding="utf-8"), files()
    named = set(re.findall(r"`([\w/.-]+\.(?:py|smk|sh))(?:::\w+)?`", text)) - OF_THE_RELEASED_CODE
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in known)] == []
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert [link for link in links if link and not (page.parent / link).exists()] == []
