"""The web site of the documentation loads nothing from other hosts."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

from ci.common.paths import CHECKOUT


@pytest.fixture(scope="module")
def hosts() -> ModuleType:
    """The hook, which is not part of a package."""
    spec = importlib.util.spec_from_file_location("site_hosts", CHECKOUT / "docs" / "site_hosts.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "page",
    [
        '<script src="https://unpkg.com/mermaid@11/dist/mermaid.min.js"></script>',
        '<script src="//unpkg.com/mermaid.js"></script>',
        '<link rel="stylesheet" href="https://fonts.googleapis.com/css?family=Roboto">',
        '<link rel="preconnect dns-prefetch" href="https://fonts.gstatic.com">',
        '<img src="https://img.shields.io/badge.svg">',
        '<iframe src="http://example.com"></iframe>',
        '<div style="background: url(https://example.com/a.png)"></div>',
        "<style>@import 'https://example.com/a.css';</style>",
    ],
)
def test_page_that_loads_from_another_host_is_found(hosts: ModuleType, page: str) -> None:
    assert len(hosts.foreign(page, ".html")) == 1


@pytest.mark.parametrize(
    "page",
    [
        '<script src="../assets/javascripts/mermaid.min.js"></script>',
        '<link rel="canonical" href="https://example.com/page/">',
        '<a href="https://example.com">read more</a>',
        '<img src="data:image/png;base64,AAAA">',
        "<style>a { background: url(a.png) }</style>",
    ],
)
def test_links_and_own_files_are_allowed(hosts: ModuleType, page: str) -> None:
    assert hosts.foreign(page, ".html") == []


def test_style_sheet_is_checked(hosts: ModuleType) -> None:
    assert hosts.foreign("@font-face { src: url(https://example.com/a.woff2) }", ".css") == [
        "https://example.com/a.woff2"
    ]


def test_page_that_asks_github_for_stars_is_found(hosts: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text('<a href="https://github.com/a/b" class="md-source" data-md-component="source">a/b</a>')
    assert hosts.check(tmp_path) == ["index.html loads the stars of the repository"]
    page.write_text(hosts.without_stars(page.read_text()))
    assert hosts.check(tmp_path) == []


def test_folder_without_pages_is_an_error(hosts: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no page"):
        hosts.check(tmp_path)


@pytest.mark.services  # downloads packages the first time
def test_built_site_loads_nothing_from_other_hosts_and_draws_its_diagrams(hosts: ModuleType) -> None:
    done = subprocess.run(["make", "site"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    site = CHECKOUT / "build" / "site"
    assert hosts.check(site) == []
    drawn = [path for path in site.rglob("*.html") if '<pre class="mermaid">' in path.read_text()]
    assert drawn, "no page has a diagram"
    for page in drawn:
        scripts = [address for address in _scripts(page) if address.endswith("mermaid.min.js")]
        assert len(scripts) == 1, f"{page}: the script is missing, so the theme loads it from a CDN"
        assert (page.parent / scripts[0]).resolve().exists(), f"{page}: {scripts[0]} does not exist"


def _scripts(page: Path) -> list[str]:
    """Addresses of the scripts of a page."""
    return [part.split('"')[0] for part in page.read_text().split('<script src="')[1:]]
