"""Compare bills of materials with the database of osv.dev, and print what is known to be vulnerable, as Markdown.

    python -m ci.scan build/sbom/*.cdx.json

A report, not a gate: it ends with 0 whatever is found, and with 1 only where it could not look. Needs bills, Go and the
internet: the scanner is compiled once from its Go module, and asks api.osv.dev.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from ci.console import Failure, main, run
from ci.gocache import compiled
from ci.images import store

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
        words = ["scan", "source", "--verbosity", "error", "--format", "markdown", "--lockfile"]
        done = run([scanner, *words, bill], check=False)
        if done.returncode not in (CLEAN, FOUND, EMPTY):
            raise Failure(
                f"osv-scanner could not look at {bill} (code {done.returncode}):\n{done.stderr.strip()}\n"
                "It asks api.osv.dev: is the internet reached from here?"
            )
        nothing = {CLEAN: "Nothing is known.\n", EMPTY: "Nothing is in it.\n"}
        title = bill.name.removesuffix(".cdx.json")
        sections.append(f"## {title}\n\n{nothing.get(done.returncode) or done.stdout}")
    return "\n".join(sections)


def check(bills: list[Path]) -> None:
    """Look whether there is something to look at, before the scanner is compiled.

    Raises:
        Failure: a bill is missing.
    """
    if lacking := [str(bill) for bill in bills if not bill.exists()]:
        raise Failure(
            f"there is no {', '.join(lacking)}: `make publish-join REGISTRY=...` writes bills of what is published; "
            f"those of `make images` are looked at by make scan BILLS='{store.folder()}/*.cdx.json'"
        )


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m ci.scan", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bills", nargs="+", type=Path, help="CycloneDX files, named *.cdx.json")
    bills = parser.parse_args().bills
    check(bills)
    with redirect_stdout(sys.stderr):  # the report alone, for whoever keeps it
        scanner = compiled(MODULE, PACKAGE, "osv-scanner")
    print(report(scanner, bills), flush=True)


if __name__ == "__main__":
    main(_main)
