"""The report of known vulnerabilities in SBOMs, as Markdown."""

from __future__ import annotations

from pathlib import Path

from ci.common.console import Failure, run
from ci.images import store

CLEAN, FOUND, EMPTY = 0, 1, 128  # exit codes of osv-scanner: no vulnerabilities, some, SBOM without packages


def report(scanner: Path, sboms: list[Path]) -> str:
    """One section per SBOM.

    Raises:
        Failure: the scanner failed.
    """
    sections = []
    for file in sboms:
        words = ["scan", "source", "--verbosity", "error", "--format", "markdown", "--lockfile"]
        done = run([scanner, *words, file], check=False)
        if done.returncode not in (CLEAN, FOUND, EMPTY):
            raise Failure(
                f"osv-scanner could not scan {file} (code {done.returncode}):\n{done.stderr.strip()}\n"
                "It calls api.osv.dev: check that this machine reaches the internet."
            )
        nothing = {CLEAN: "No known vulnerabilities.\n", EMPTY: "The SBOM has no packages.\n"}
        title = file.name.removesuffix(".cdx.json")
        sections.append(f"## {title}\n\n{nothing.get(done.returncode) or done.stdout}")
    return "\n".join(sections)


def check(sboms: list[Path]) -> None:
    """Check that all SBOMs exist, before the scanner is compiled.

    Raises:
        Failure: an SBOM is missing.
    """
    if lacking := [str(file) for file in sboms if not file.exists()]:
        raise Failure(
            f"there is no {', '.join(lacking)}: `make publish-join REGISTRY=...` writes SBOMs of published images; "
            f"to scan those of `make images`, run make scan SBOMS='{store.folder()}/*.cdx.json'"
        )
