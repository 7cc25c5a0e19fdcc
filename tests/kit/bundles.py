"""Unpacks bundles."""

from __future__ import annotations

import subprocess
from pathlib import Path


def unpack(packed: Path, where: Path) -> Path:
    """Unpack as a person does; returns the folder."""
    where.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-xf", packed, "-C", where], check=True)
    (folder,) = where.iterdir()
    return folder
