"""Test files share code through tests/kit only, and import no program. `.importlinter` covers packages, not tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

import pytest

from ci.checks.changed import imports
from ci.common.paths import CHECKOUT

KIT = "kit"


def reasons(file: PurePath, names: set[str]) -> Iterator[str]:
    """Why imports of a file are forbidden. The path of the file is relative to the checkout, the names are dotted."""
    folder = file.parts[1] if len(file.parts) > 2 else ""
    for name in sorted(names):
        root, *parts = name.split(".")
        if "__main__" in parts:
            yield f"{file} imports the program {name}: move what it needs into a module with a name"
        if root != "tests" or not parts:
            continue
        if any(part.startswith("test_") for part in parts):
            yield f"{file} imports the test module {name}: move what both need into a module without tests"
        elif parts[0] not in (folder, KIT):
            yield f"{file} imports {name} of another folder: move what both need into tests/{KIT}"


def test_test_files_import_only_what_they_may() -> None:
    files = sorted((CHECKOUT / "tests").rglob("*.py"))
    assert len(files) > 100
    wrong = [reason for file in files for reason in reasons(file.relative_to(CHECKOUT), imports(file))]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("tests/e2e/test_idle.py", "tests.gitops.delivery"),
        ("tests/e2e/conftest.py", "tests.e2e.test_idle"),
        ("tests/e2e/conftest.py", "ci.images.__main__"),
        ("tests/kit/clients.py", "tests.gitops.delivery"),
        ("tests/conftest.py", "tests.e2e.conftest"),
        ("tests/test_skips.py", "tests.ci.test_words"),
    ],
)
def test_forbidden_import_is_reported(file: str, name: str) -> None:
    [reason] = reasons(PurePath(file), {name, "tests.kit.clients", "pytest", "ci.common.kube"})
    assert reason.startswith(f"{file} imports")
    assert name in reason
