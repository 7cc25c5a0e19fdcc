"""Run every long suite, one after another, and print one table at the end.

After a failed suite the next one still runs. The output of each suite is in build/nightly/<suite>.log.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

from ci.common.console import main, say
from ci.common.paths import CHECKOUT

LONG = {"HOUSE_LONG": "1"}
LOGS = CHECKOUT / "build" / "nightly"


@dataclass(frozen=True)
class Suite:
    """A target of the Makefile, with the settings for its long form."""

    target: str
    why: str
    settings: Mapping[str, str]


SUITES = (
    Suite("test", "everything without a cluster, with the long tests", LONG),
    Suite("checkov", "the manifests of every environment against the rules of Checkov", {}),
    Suite("secret-scan", "every commit of the repository", {}),
    Suite("e2e", "with every damaged model, a killed control plane, and restarts of the nodes and of Docker", LONG),
    Suite("e2e-gitops", "with an hour's drift watch, and random order", {**LONG, "HOUSE_WATCH_SECONDS": "3600"}),
    Suite("e2e-faults", "killed pods, stores away, a faulty data API", {}),
    Suite("e2e-closed", "the bundle without egress", {}),
    Suite("upgrade-test", "from the last release", {}),
    Suite("contract", "5,000 generated requests", {}),
    Suite("bench", "ratios of times", {}),
)


def run(suite: Suite) -> tuple[str, float]:
    """Run a suite; returns its result and its seconds."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{suite.target}.log"
    say(f"make {suite.target} ({suite.why}); its output goes to {log.relative_to(CHECKOUT)}")
    began = time.monotonic()
    with log.open("w") as sink:
        done = subprocess.run(
            ["make", suite.target], cwd=CHECKOUT, stdout=sink, stderr=sink, env={**os.environ, **suite.settings},
            check=False,
        )  # fmt: skip
    return ("passed" if done.returncode == 0 else f"FAILED ({done.returncode})"), time.monotonic() - began


def last_line(target: str) -> str:
    """The line of the log with the counts of tests."""
    lines = (LOGS / f"{target}.log").read_text(errors="replace").splitlines()
    return next((line.strip("= ") for line in reversed(lines) if " passed" in line or " failed" in line), "")


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.checks.nightly", description=__doc__)
    names = [suite.target for suite in SUITES]
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(names)} (default: all)")
    options = parser.parse_args()
    if unknown := sorted(set(options.suites) - set(names)):
        parser.error(f"unknown suite {', '.join(unknown)}; the names are {', '.join(names)}")
    rows = []
    for suite in SUITES:
        if not options.suites or suite.target in options.suites:
            result, seconds = run(suite)
            say(f"make {suite.target} {result} after {seconds:.0f} s")
            rows.append((suite.target, result, f"{seconds:.0f}", last_line(suite.target)))
    print(f"\n{'suite':<14} {'result':<12} {'seconds':>8}  tests")
    for target, result, seconds_text, tests in rows:
        print(f"{target:<14} {result:<12} {seconds_text:>8}  {tests}")
    return sum(result != "passed" for _, result, _, _ in rows)


if __name__ == "__main__":
    main(_main)
