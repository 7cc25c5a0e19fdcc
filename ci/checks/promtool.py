"""Finds promtool, which checks and tests alert rules: on PATH, or in Debian's package, unpacked into the cache.

The package `prometheus` is not installed, because it would start a daemon.
"""

from __future__ import annotations

from ci.common.debian import program


def promtool() -> str:
    """Path of promtool; downloaded once if it is not on PATH.

    Raises:
        Failure: there is none, and the machine cannot download Debian's package.
    """
    return program("prometheus", "promtool")
