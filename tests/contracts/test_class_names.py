"""One name per class: the services have no two classes with the same name, and neither have the programs under ci/.

All services count as one, not each with `core` alone, because they share a ledger, wire formats and pages about them.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from ci.common.paths import CHECKOUT

PROGRAMS = {"services": "services/*/**/*.py", "ci": "ci/**/*.py"}


def repeated(root: Path, pattern: str) -> Iterator[str]:
    """Every class name that several classes have, with their files."""
    places = defaultdict(list)
    for file in sorted(root.glob(pattern)):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(file.relative_to(root)))
    for name, files in sorted(places.items()):
        if len(files) > 1:
            yield f"class {name} is in {' and in '.join(files)}: give each thing a name of its own"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_class_has_a_name_of_its_own(program: str) -> None:
    assert len(list(CHECKOUT.glob(PROGRAMS[program]))) > 50, "files of this program were found"
    wrong = list(repeated(CHECKOUT, PROGRAMS[program]))
    assert not wrong, "\n".join(wrong)


def test_a_repeated_name_is_reported(tmp_path: Path) -> None:
    """Also a class within a class, and two in one file; functions and imported names do not count."""
    files = {
        "services/core/src/core/listing.py": "class Listing: ...\nclass Batch: ...",
        "services/pipeline/src/pipeline/rows.py": "if True:\n    class Listing: ...\ndef Other(): ...",
        "services/predictor/src/predictor/rows.py": "from core.listing import Batch\nclass Other:\n  class Inner: ...",
        "services/ui/src/ui/rows.py": "class Inner: ...\nclass Twice: ...\nclass Twice: ...",
        "ci/rows.py": "class Batch: ...",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    inner, listing, twice = repeated(tmp_path, PROGRAMS["services"])
    assert inner.startswith(
        "class Inner is in services/predictor/src/predictor/rows.py and in services/ui/src/ui/rows.py"
    )
    assert listing.startswith(
        "class Listing is in services/core/src/core/listing.py and in services/pipeline/src/pipeline/rows.py"
    )
    assert twice.startswith("class Twice is in services/ui/src/ui/rows.py and in services/ui/src/ui/rows.py")
    assert not list(repeated(tmp_path, PROGRAMS["ci"]))
