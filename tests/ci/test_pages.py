"""Pages of this repository: every link leads somewhere, and what nobody has run stands in one place."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ci.paths import CHECKOUT

LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=CHECKOUT, check=True, capture_output=True, text=True)
PAGES = LISTED.stdout.split()
UNPROVED = "UNPROVED.md"


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", (CHECKOUT / page).read_text()):
        name, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (CHECKOUT / page).parent / name if name else CHECKOUT / page
        assert target.exists(), f"{page}: {link} is not there"
        assert not anchor or anchor in anchors(target), f"{page}: {name} has no heading for #{anchor}"


def test_what_nobody_has_run_stands_in_one_place() -> None:
    told = {page for page in PAGES if re.search(r"(\*\*|^#+ )unproved", (CHECKOUT / page).read_text(), re.I | re.M)}
    assert told == {UNPROVED}, "name it there, and say on the page what is proved"
