"""The report of known vulnerabilities: vulnerabilities, SBOMs that cannot be scanned, and missing SBOMs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ci.checks.scan.report import check, report
from ci.common.console import Failure


def scanner(folder: Path, code: int) -> Path:
    """A stand-in for osv-scanner that ends with this exit code."""
    program = folder / "osv-scanner"
    program.write_text(f'#!/bin/sh\necho "| CVE of $8 |"\necho "no such host" >&2\nexit {code}\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(
    ("code", "text"),
    [(0, "No known vulnerabilities.\n"), (1, "| CVE of ui.cdx.json |\n"), (128, "The SBOM has no packages.\n")],
)
def test_each_sbom_has_a_section(code: int, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert report(scanner(tmp_path, code), [Path("ui.cdx.json")]) == f"## ui\n\n{text}"


def test_failed_scan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"could not scan ui\.cdx\.json \(code 127\):\nno such host\n.*api\.osv\.dev"):
        report(scanner(tmp_path, 127), [Path("ui.cdx.json")])


def test_without_bills_it_says_what_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOUSE_CACHE_DIR", str(tmp_path))
    message = f"make publish-join REGISTRY=...` writes .* make scan SBOMS='{re.escape(str(tmp_path))}/images/"
    with pytest.raises(Failure, match=message):
        check([tmp_path / "*.cdx.json"])
