"""Compare SBOMs with the database of osv.dev, and print known vulnerabilities as Markdown.

    python -m ci.checks.scan build/sbom/*.cdx.json

This is a report, not a gate: the exit code is 0 even with vulnerabilities, and 1 only if the scan itself failed. It
needs SBOMs, Go and the internet: the scanner is compiled once from its Go module, and calls api.osv.dev.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ci.checks.scan.report import check, report
from ci.common.console import main
from ci.common.gocache import compiled

MODULE = Path(__file__).parent
PACKAGE = "github.com/google/osv-scanner/v2/cmd/osv-scanner"


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.checks.scan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sboms", nargs="+", type=Path, help="CycloneDX files, named *.cdx.json")
    sboms = parser.parse_args().sboms
    check(sboms)
    with redirect_stdout(sys.stderr):  # standard output has only the report
        scanner = compiled(MODULE, PACKAGE, "osv-scanner")
    print(report(scanner, sboms), flush=True)


if __name__ == "__main__":
    main(_main)
