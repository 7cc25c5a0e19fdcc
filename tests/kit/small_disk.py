"""A disk of a fixed size that a test can fill."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MIB = 2**20
_FILLER = "filler"


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system. `fill` and `empty` write and delete a file of the test."""

    folder: Path

    @property
    def free_bytes(self) -> int:
        """Space that a write can use."""
        status = os.statvfs(self.folder)
        return status.f_bavail * status.f_frsize

    def fill(self, leave: int) -> None:
        """Use all space except about `leave` bytes. Nothing happens if less is free."""
        with (self.folder / _FILLER).open("ab") as filler:
            if (size := self.free_bytes - leave) > 0:
                os.posix_fallocate(filler.fileno(), filler.tell(), size)

    def empty(self) -> None:
        """Give the space of `fill` back."""
        (self.folder / _FILLER).unlink()


@contextmanager
def small_disk(folder: Path, size: int, user: int = 0) -> Iterator[SmallDisk]:
    """Mount an empty disk of `size` bytes on an existing folder for the block. It belongs to `user`. Needs root."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small disk")
    options = f"size={size},mode=0755,uid={user},gid={user}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", folder], check=True)
