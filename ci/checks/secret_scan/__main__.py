"""Search the history of the repository for secrets with gitleaks.

    python -m ci.checks.secret_scan [REPOSITORY]

Reads every commit of every branch and tag, except what only a merge commit changes. Fails on a finding that
ci/checks/secret_scan/accepted.txt does not accept, and, for this checkout, on an entry there without a finding.
gitleaks is compiled once into the cache, and works offline afterwards.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ci.checks.secret_scan.findings import ACCEPTED, accepted, gitleaks_program, scan
from ci.common.console import main, say
from ci.common.paths import CHECKOUT


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.checks.secret_scan",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("repository", nargs="?", type=Path, default=CHECKOUT, help="Git checkout (default: this one)")
    repository = parser.parse_args().repository
    exceptions = accepted(ACCEPTED)
    findings = scan(gitleaks_program(), repository)
    new = [str(one) for one in findings if one.fingerprint not in exceptions]
    ours = repository.resolve() == CHECKOUT
    unused = sorted(exceptions - {one.fingerprint for one in findings}) if ours else []
    for text in new:
        print(text, flush=True)
    for fingerprint in unused:
        print(f"{ACCEPTED.name}: {fingerprint} is not a finding: delete it", flush=True)
    if new:
        print("replace each secret where it is used, now; if it is not a secret, accept it in "
              f"{ACCEPTED.relative_to(CHECKOUT)}", flush=True)  # fmt: skip
    if not new and not unused:
        say(f"no secrets in the history; {len(findings)} accepted findings")
    return min(len(new) + len(unused), 1)


if __name__ == "__main__":
    main(_main)
