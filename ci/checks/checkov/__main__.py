"""Compare the rendered manifests of every environment with Checkov's rules for Kubernetes.

    python -m ci.checks.checkov

Fails on a finding that ci/checks/checkov/skips.yaml does not explain, and on an exception that explains nothing.
`make checkov` creates Checkov's environment first. It works offline: Checkov calls no server.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ci.checks.checkov.findings import SKIPS, CheckovFinding, CheckovReport, parse, skips, unexplained, unused
from ci.checks.checkov.manifests import render
from ci.common.console import Failure, main, phase, run, say
from ci.common.environments import environments
from ci.common.paths import CHECKOUT
from ci.deploy import charts

PROGRAM = CHECKOUT / "build" / "checkov-venv" / "bin" / "checkov"


def check(file: Path) -> CheckovReport:
    """Run Checkov on a file with manifests.

    Raises:
        Failure: Checkov is not installed, or failed.
    """
    if not PROGRAM.exists():
        raise Failure(f"{PROGRAM.relative_to(CHECKOUT)} is missing: `make checkov` creates it")
    words = [str(PROGRAM), "--framework", "kubernetes", "--file", str(file), "--output", "json", "--compact"]
    # no download of guidelines and no report of the version to a server; findings do not change the exit code
    words += ["--skip-download", "--soft-fail", "--quiet"]
    return parse(run(words, env={**os.environ, "LOG_LEVEL": "ERROR", "BC_ENABLE_PERSIST_GRAPHS": "false"}).stdout)


def _main() -> int:
    argparse.ArgumentParser(
        prog="python -m ci.checks.checkov", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    exceptions, findings = skips(SKIPS), set[CheckovFinding]()
    charts.dependencies()
    for env in environments():
        with phase(f"check {env}"):
            report = check(render(env))
            findings |= set(report.findings)
            left = unexplained(report.findings, exceptions)
            say(f"{env}: {report.passed} passed, {len(report.findings)} explained in skips.yaml" if not left else
                f"{env}: {report.passed} passed, {len(left)} failed")  # fmt: skip
    wrong = [str(one) for one in unexplained(findings, exceptions)]
    wrong += [f"skips.yaml: {skip.rule} for {pattern} explains nothing: delete it"
              for skip, pattern in unused(findings, exceptions)]  # fmt: skip
    for text in wrong:
        print(text, flush=True)
    if wrong:
        print("fix each object, or explain it in ci/checks/checkov/skips.yaml", flush=True)
    return min(len(wrong), 1)


if __name__ == "__main__":
    main(_main)
