"""Hook of MkDocs that refuses a site whose pages load something from another host.

The site must work in a closed network, and readers must not be reported to others. Links that a reader clicks may lead
anywhere. `python docs/site_hosts.py FOLDER` checks a folder of pages.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

# Tags whose address the browser loads without a click. A <link> to the page's own address (canonical) loads nothing.
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data", "link": "href"}
# The theme counts the stars of the repository beside its link, which asks GitHub on every visit.
STARS = ' data-md-component="source"'
NOT_LOADED = {"canonical", "alternate", "edit", "next", "prev"}
FOREIGN = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"(?:@import\s+|url\()\s*[\"']?((?:https?:)?//[^\"')\s]+)", re.IGNORECASE)


class _Addresses(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of a tag that loads it."""
        values = dict(attrs)
        rel = set((values.get("rel") or "").split())
        if tag in LOADED and not (tag == "link" and rel and rel <= NOT_LOADED):
            self.addresses.append(values.get(LOADED[tag]) or "")


def foreign(text: str, suffix: str) -> list[str]:
    """Addresses on other hosts that a page (`.html`) or a style sheet (`.css`) loads."""
    addresses = IN_STYLE.findall(text)
    if suffix == ".html":
        parser = _Addresses()
        parser.feed(text)
        addresses = parser.addresses + addresses
    return [address for address in addresses if FOREIGN.match(address)]


def check(site: Path) -> list[str]:
    """Every page and style sheet of a site with the addresses on other hosts that it loads.

    Raises:
        FileNotFoundError: the folder has no page.
    """
    pages = [path for path in sorted(site.rglob("*")) if path.suffix in (".html", ".css")]
    if not any(path.suffix == ".html" for path in pages):
        raise FileNotFoundError(f"{site} has no page")
    texts = {path: path.read_text(encoding="utf-8") for path in pages}
    return [
        f"{path.relative_to(site)} loads {address}"
        for path, text in texts.items()
        for address in [*foreign(text, path.suffix), *(["the stars of the repository"] if STARS in text else [])]
    ]


def without_stars(output: str) -> str:
    """A page without the request for the stars of the repository. The link stays."""
    return output.replace(STARS, "")


def on_post_page(output: str, **_: Any) -> str:
    """Remove what the theme would ask GitHub for."""
    return without_stars(output)


def on_post_template(output_content: str, **_: Any) -> str:
    """The same for the page of the error 404."""
    return without_stars(output_content)


def on_post_build(config: Any, **_: Any) -> None:
    """Check the site that was built.

    Raises:
        RuntimeError: a page loads something from another host. The message names page and address.
    """
    if wrong := check(Path(config["site_dir"])):
        raise RuntimeError("the site must load nothing from other hosts:\n" + "\n".join(wrong))


if __name__ == "__main__":
    sys.exit("\n".join(check(Path(sys.argv[1]))) or 0)
