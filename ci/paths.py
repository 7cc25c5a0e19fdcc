"""Where things lie: the checkout, the cache that outlives it, the state of the one-node cluster."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def cache_dir() -> Path:
    """Folder for everything that is costly to make again; never inside the checkout.

    `HOUSE_CACHE_DIR` names another place. Contents are keyed by version or by a hash of their
    inputs, so that nothing in it is ever wrong, only unused (`make cache-clean`).
    """
    configured = os.environ.get("HOUSE_CACHE_DIR")
    if configured:
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/cache/house-platform")
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "house-platform"


def state_dir() -> Path:
    """Folder of the one-node cluster's state: etcd, kubelet, containerd, logs, keys, volumes."""
    return Path(os.environ.get("HOUSE_STATE_DIR", "/var/lib/house-platform"))


def venv_bin(name: str) -> str:
    """Path of a program of the checkout's virtual environment (made by `make setup`)."""
    return str(CHECKOUT / ".venv" / "bin" / name)
