"""The control groups of the engine and its containers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

CGROUP = "house-platform"
CGROUPS = Path("/sys/fs/cgroup")


def present() -> list[Path]:
    """The control groups in every hierarchy, the deepest first."""
    return sorted(_walk(), key=lambda folder: len(folder.parts), reverse=True)


def remove() -> None:
    """Remove the control groups. Their processes must have ended."""
    for folder in present():
        with contextlib.suppress(OSError):  # the kernel removed it with its last process
            folder.rmdir()


def _walk() -> Iterator[Path]:
    for top in [CGROUPS / CGROUP, *CGROUPS.glob(f"*/{CGROUP}")]:
        if top.is_dir() and not top.is_symlink():
            yield from (Path(folder) for folder, _, _ in os.walk(top))
