"""Debian packages that the programs under ci/ need, and the mirrors that this machine's apt uses."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ci.common.console import Failure, run, say
from ci.common.paths import cache_dir


def missing(packages: Sequence[str]) -> list[str]:
    """The packages that are not installed."""
    return [
        name
        for name in packages
        if "ok installed" not in run(["dpkg-query", "-W", "-f", "${Status}", name], check=False).stdout
    ]


def available(package: str) -> bool:
    """True if apt knows a version of the package that it can install."""
    match = re.search(r"Candidate: (\S+)", run(["apt-cache", "policy", package], check=False).stdout)
    return match is not None and match.group(1) != "(none)"


def install(packages: Sequence[str]) -> None:
    """Install the packages that are missing.

    Raises:
        Failure: the machine does not run Debian, the user is not root, or apt failed.
    """
    if not shutil.which("dpkg-query"):
        raise Failure(f"this needs Debian's packages {' '.join(packages)}: use Debian 12 or 13, or Docker with kind")
    wanted = missing(packages)
    if not wanted:
        return
    if os.geteuid() != 0:
        raise Failure(f"packages are missing: run as root, or `sudo apt-get install {' '.join(wanted)}`")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    log = cache_dir() / "log" / "apt.log"
    with alone():
        say(f"installing Debian packages: {' '.join(wanted)}")
        run(["apt-get", "update", "-q"], env=env, log=log)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *wanted], env=env, log=log)


def program(package: str, name: str) -> str:
    """Path of a program of a Debian package, which is not installed: on PATH, or unpacked once into the cache.

    Raises:
        Failure: there is none, and the machine cannot download the package.
    """
    cached = cache_dir() / name / name
    if cached.exists():
        return str(cached)
    if present := shutil.which(name):
        return present
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Failure(f"{name} is not installed: install it, for example from the package {package} of Debian")
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "-qq", "download", package]
        if run(download, cwd=Path(folder), check=False, timeout=300).returncode:  # a fresh machine has no package lists
            run(["apt-get", "-qq", "update"], timeout=300)
            run(download, cwd=Path(folder), timeout=300)
        [archive] = Path(folder).glob(f"{package}_*.deb")
        run(["dpkg-deb", "-x", archive, folder])
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_name(f"{name}.{Path(folder).name}")
        shutil.copy2(Path(folder) / "usr" / "bin" / name, partial)
        partial.rename(cached)
    return str(cached)


@contextmanager
def alone() -> Iterator[None]:
    """Lock around apt: programs of this repository wait for each other, because apt refuses to run twice."""
    file = cache_dir() / "log" / "apt.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def mirrors() -> tuple[str, str]:
    """URLs of the Debian mirrors for packages and for security updates, as this machine's apt uses them.

    HOUSE_DEBIAN_MIRROR and HOUSE_DEBIAN_SECURITY_MIRROR override them.

    Raises:
        Failure: this machine's apt uses none.
    """
    uris: list[str] = []
    for file in [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]:
        if file.is_file():
            uris += _repositories(file.read_text())
    main = os.environ.get("HOUSE_DEBIAN_MIRROR") or next((uri for uri in uris if "-security" not in uri), "")
    security = os.environ.get("HOUSE_DEBIAN_SECURITY_MIRROR") or next((uri for uri in uris if "-security" in uri), "")
    if not main or not security:
        raise Failure(
            "no Debian mirror is configured for apt here: set HOUSE_DEBIAN_MIRROR and HOUSE_DEBIAN_SECURITY_MIRROR"
        )
    return main, security


def _repositories(text: str) -> list[str]:
    """URIs of the enabled Debian repositories in an apt source file, one-line or deb822 format."""
    active = re.sub(r"^[ \t]*(#|deb-src\s).*\n?", "", text, flags=re.MULTILINE)
    return [
        uri
        for stanza in re.split(r"\n\s*\n", active)
        if not re.search(r"^Enabled:\s*no\b", stanza, re.MULTILINE | re.IGNORECASE)
        for uri in re.findall(r"https?://[^\s\]]+/debian(?:-security)?/?(?=\s|$)", stanza)
    ]
