"""Debian as this machine is configured: packages that the programs under ci/ need, and the mirrors they come from."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

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


def mirrors() -> tuple[str, str]:
    """Debian's mirrors, for packages and for security updates: those that this machine's apt uses.

    HOUSE_DEBIAN_MIRROR and HOUSE_DEBIAN_SECURITY_MIRROR name others.

    Raises:
        Failure: this machine's apt uses none.
    """
    found: list[str] = []
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if file.is_file():
            found += _repositories(file.read_text())
    main = os.environ.get("HOUSE_DEBIAN_MIRROR") or next((uri for uri in found if "-security" not in uri), "")
    security = os.environ.get("HOUSE_DEBIAN_SECURITY_MIRROR") or next((uri for uri in found if "-security" in uri), "")
    if not main or not security:
        raise Failure(
            "no Debian mirror is configured for apt here: set HOUSE_DEBIAN_MIRROR and HOUSE_DEBIAN_SECURITY_MIRROR"
        )
    return main, security


def _repositories(text: str) -> list[str]:
    """URIs of Debian's repositories in a file of apt, in either form; not those that are turned off."""
    active = re.sub(r"^[ \t]*(#|deb-src\s).*\n?", "", text, flags=re.MULTILINE)
    return [
        uri
        for stanza in re.split(r"\n\s*\n", active)
        if not re.search(r"^Enabled:\s*no\b", stanza, re.MULTILINE | re.IGNORECASE)
        for uri in re.findall(r"https?://[^\s\]]+/debian(?:-security)?/?(?=\s|$)", stanza)
    ]
