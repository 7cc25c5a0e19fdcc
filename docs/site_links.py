"""Hook of MkDocs that turns links to files outside of docs/ into links to the repository on GitHub.

In the repository these links are relative paths, which `tests/ci/test_pages.py` checks. The web site contains only the
pages in docs/.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"(\]\()([^)\s#]+)([^)\s]*\))")


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Replace relative links that leave docs/ with addresses of the repository.

    Raises:
        FileNotFoundError: a link leads to a file that does not exist.
    """
    docs = Path(config["docs_dir"])
    checkout = docs.parent

    def replace(link: re.Match[str]) -> str:
        target = link[2]
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = (docs / page.file.src_uri).parent.joinpath(target).resolve()
        if path.is_relative_to(docs):
            return link[0]
        if not path.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {target}, which does not exist")
        kind = "tree" if path.is_dir() else "blob"
        return f"{link[1]}{config['repo_url'].rstrip('/')}/{kind}/main/{path.relative_to(checkout)}{link[3]}"

    return LINK.sub(replace, markdown)
