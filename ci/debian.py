"""Debian packages that the programs under ci/ need, installed when they are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from ci.console import Failure, run, say
from ci.paths import cache_dir


def missing(packages: Sequence[str]) -> list[str]:
    """The packages that are not installed."""
    return [
        name
        for name in packages
        if "ok installed" not in run(["dpkg-query", "-W", "-f", "${Status}", name], check=False).stdout
    ]


def install(packages: Sequence[str]) -> None:
    """Install the packages that are missing.

    Raises:
        Failure: this is no Debian, not root, or apt failed.
    """
    if not shutil.which("dpkg-query"):
        raise Failure(f"this needs Debian's packages {' '.join(packages)}: use Debian 12 or 13, or Docker with kind")
    wanted = missing(packages)
    if not wanted:
        return
    if os.geteuid() != 0:
        raise Failure(f"packages are missing: run as root, or `sudo apt-get install {' '.join(wanted)}`")
    say(f"installing Debian packages: {' '.join(wanted)}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = cache_dir() / "log" / "apt.log"
    run(["apt-get", "update", "-q"], env=env, log=log)
    run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted], env=env, log=log)
