"""Folders: the checkout, the cache outside of it, and the state of the cluster."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def cache_dir() -> Path:
    """Folder for everything that is slow to build again; never inside the checkout.

    `HOUSE_CACHE_DIR` names another folder. Each entry is keyed by its version or by a hash of its inputs, so an entry
    is never outdated. It can only be unused (`make cache-clean`).
    """
    configured = os.environ.get("HOUSE_CACHE_DIR")
    if configured:
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/cache/house-platform")
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "house-platform"


def state_dir() -> Path:
    """Folder of the cluster's state: kubeconfig, kubectl, logs; never inside the checkout.

    `HOUSE_STATE_DIR` names another folder.
    """
    configured = os.environ.get("HOUSE_STATE_DIR")
    if configured:
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/lib/house-platform")
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local" / "state")) / "house-platform"


def venv_bin(name: str) -> str:
    """Path of a program of the checkout's virtual environment (made by `make setup`)."""
    return str(CHECKOUT / ".venv" / "bin" / name)
