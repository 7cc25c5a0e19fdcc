"""Pages of this repository: no dead links, one page for claims that nobody has run, and a short README."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci.common.git import files
from ci.common.paths import CHECKOUT

PAGES = [name for name in files(CHECKOUT) if name.endswith(".md")]
UNPROVED = "UNPROVED.md"
TARGETS = set(re.findall(r"^([a-z][a-z0-9-]*):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
ROOTS = [CHECKOUT, *sorted((CHECKOUT / "services").glob("*/src"))]
OURS = {"ci", "tests", *(path.name for root in ROOTS[1:] for path in root.iterdir())}


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub derives from the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_page_has_no_dead_link(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", (CHECKOUT / page).read_text()):
        name, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (CHECKOUT / page).parent / name if name else CHECKOUT / page
        assert target.exists(), f"{page}: {link} does not exist"
        assert not anchor or anchor in anchors(target), f"{page}: {name} has no heading with the anchor #{anchor}"


@pytest.mark.parametrize("page", PAGES)
def test_page_names_only_targets_and_modules_that_exist(page: str) -> None:
    text = (CHECKOUT / page).read_text()
    targets = set(re.findall(r"(?:^\s*|`|sudo |&& )make ([a-z][a-z0-9-]*)", text, re.MULTILINE))
    assert not targets - TARGETS, f"{page}: the Makefile does not have these targets"
    modules = {name for name in re.findall(r"-m ([a-z_]+(?:\.[a-z_]+)*)", text) if name.split(".")[0] in OURS}
    missing = {name for name in modules if not any(_is_module(root, name) for root in ROOTS)}
    assert not missing, f"{page}: these modules do not exist"


def _is_module(root: Path, name: str) -> bool:
    path = root / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def test_only_one_page_lists_what_nobody_has_run() -> None:
    marked = {page for page in PAGES if re.search(r"(\*\*|^#+ )unproved", (CHECKOUT / page).read_text(), re.I | re.M)}
    assert marked == {UNPROVED}, f"list the claim in {UNPROVED}, and say on the page what is proved"


def test_readme_stays_short() -> None:
    lines = (CHECKOUT / "README.md").read_text().splitlines()
    assert len(lines) <= 150, f"README.md has {len(lines)} lines; move details to docs/"


def test_every_page_of_docs_is_linked_from_another_page() -> None:
    targets = set()
    for page in PAGES:
        for name in re.findall(r"\]\(([^)\s#]+)", (CHECKOUT / page).read_text()):
            if "://" not in name:
                targets.add(((CHECKOUT / page).parent / name).resolve())
    lonely = {page for page in PAGES if page.startswith("docs/") and (CHECKOUT / page).resolve() not in targets}
    assert not lonely, "link these pages from docs/README.md"
