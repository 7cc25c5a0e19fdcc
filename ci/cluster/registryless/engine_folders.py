"""The engine's folders outside the package, and the mounts in them."""

from __future__ import annotations

from pathlib import Path

from ci.common.paths import cache_dir

# Short, because the length of a socket's path is limited. The folder is gone after a restart of the machine.
RUN = Path("/run/house-platform")
SOCKET = RUN / "docker.sock"


def data() -> Path:
    """The folder of images, containers and volumes."""
    return cache_dir() / "docker"


def mounts() -> list[str]:
    """Mounts of the engine in the machine's mount namespace, the deepest first."""
    roots = (f"{RUN}/", f"{data()}/")
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if f"{point}/".startswith(roots)), reverse=True)
