"""Hook of MkDocs that gives pages with diagrams the script that draws them, from this site and not from a CDN.

The theme loads Mermaid from a CDN unless a page has loaded it already. `make site` downloads the script and checks its
hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.utils import get_relative_url

SCRIPT = "assets/javascripts/mermaid.min.js"
SOURCE = Path(__file__).parent.parent / "build" / "mermaid" / "mermaid.min.js"


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the script to the site.

    Raises:
        FileNotFoundError: `make site` did not download it.
    """
    if not SOURCE.exists():
        raise FileNotFoundError(f"{SOURCE} does not exist: run `make site`, which downloads it")
    files.append(File.generated(config, SCRIPT, abs_src_path=str(SOURCE)))
    return files


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Load the script on a page that has a diagram, before the script of the theme runs."""
    if '<pre class="mermaid">' not in output:
        return output
    return output.replace("</head>", f'<script src="{get_relative_url(SCRIPT, page.url)}"></script></head>', 1)
