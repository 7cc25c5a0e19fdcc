"""The report of known vulnerabilities: what was found, what could not be looked at, and what it needs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci.console import Failure
from ci.scan.__main__ import check, report


def scanner(folder: Path, code: int) -> Path:
    """A scanner that ends with a code, as osv-scanner tells what it found."""
    program = folder / "osv-scanner"
    program.write_text(f'#!/bin/sh\necho "| CVE of $8 |"\necho "no such host" >&2\nexit {code}\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("code", "text"), [(0, "Nothing is known.\n"), (1, "| CVE of ui.cdx.json |\n"), (128, "Nothing is in it.\n")]
)
def test_a_bill_has_a_section_whatever_is_found(
    code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert report(scanner(tmp_path, code), [Path("ui.cdx.json")]) == f"## ui\n\n{text}"


def test_what_could_not_be_looked_at_is_no_clean_report(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"could not look at ui\.cdx\.json \(code 127\):\nno such host\n.*api\.osv\.dev"):
        report(scanner(tmp_path, 127), [Path("ui.cdx.json")])


def test_without_bills_it_says_what_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_CACHE_DIR", str(tmp_path))
    said = f"make publish-join REGISTRY=...` writes .* make scan BILLS='{re.escape(str(tmp_path))}/images/"
    with pytest.raises(Failure, match=said):
        check([tmp_path / "*.cdx.json"])
