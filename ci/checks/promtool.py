"""Finds promtool, which checks and tests alert rules: on PATH, or in Debian's package, unpacked into the cache.

The package `prometheus` is not installed, because it would start a daemon.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from ci.common.console import Failure, run
from ci.common.paths import cache_dir


def promtool() -> str:
    """Path of promtool; downloaded once if it is not on PATH.

    Raises:
        Failure: there is none, and the machine cannot download Debian's package.
    """
    cached = cache_dir() / "promtool" / "promtool"
    if cached.exists():
        return str(cached)
    if program := shutil.which("promtool"):
        return program
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise Failure("promtool is not installed: install Prometheus' command line tools")
    with tempfile.TemporaryDirectory() as folder:
        download = ["apt-get", "-qq", "download", "prometheus"]
        if run(download, cwd=Path(folder), check=False, timeout=300).returncode:  # a fresh machine has no package lists
            run(["apt-get", "-qq", "update"], timeout=300)
            run(download, cwd=Path(folder), timeout=300)
        [package] = Path(folder).glob("prometheus_*.deb")
        run(["dpkg-deb", "-x", package, folder])
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_name(f"promtool.{Path(folder).name}")
        shutil.copy2(Path(folder) / "usr" / "bin" / "promtool", partial)
        partial.rename(cached)
    return str(cached)
