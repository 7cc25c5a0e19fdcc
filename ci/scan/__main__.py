"""Compare bills of materials with the database of osv.dev, and print what is known to be vulnerable, as Markdown.

    python -m ci.scan build/sbom/*.cdx.json

A report, not a gate: it ends with 0 whatever is found, and with 1 only where it could not look. Needs the internet. The
scanner is compiled once from its Go module.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ci.console import Failure, main, run
from ci.gocache import compiled

MODULE = Path(__file__).parent
PACKAGE = "github.com/google/osv-scanner/v2/cmd/osv-scanner"
CLEAN, FOUND, EMPTY = 0, 1, 128  # exit codes of osv-scanner: nothing known, something known, a bill of nothing


def report(scanner: Path, bills: list[Path]) -> str:
    """One section per bill.

    Raises:
        Failure: the scanner could not look.
    """
    sections = []
    for bill in bills:
        done = run([scanner, "scan", "source", "--format", "markdown", "--lockfile", bill], check=False)
        if done.returncode not in (CLEAN, FOUND, EMPTY):
            raise Failure(f"osv-scanner could not look at {bill} (code {done.returncode}):\n{done.stderr.strip()}")
        nothing = {CLEAN: "Nothing is known.\n", EMPTY: "Nothing is in it.\n"}
        title = bill.name.removesuffix(".cdx.json")
        sections.append(f"## {title}\n\n{nothing.get(done.returncode) or done.stdout}")
    return "\n".join(sections)


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.scan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bills", nargs="+", type=Path, help="CycloneDX files, named *.cdx.json")
    print(report(compiled(MODULE, PACKAGE, "osv-scanner"), parser.parse_args().bills), flush=True)


if __name__ == "__main__":
    main(_main)
