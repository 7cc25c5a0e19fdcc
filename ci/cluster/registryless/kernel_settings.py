"""Kernel settings that the cluster changes: set for the engine, restored when it is removed."""

from __future__ import annotations

import json
from pathlib import Path

from ci.cluster import settings

# Kernel settings that the cluster needs (a number) or that a kubelet changes (None).
SYSCTLS: dict[str, int | None] = {
    "net/ipv4/ip_forward": 1,
    "fs/inotify/max_user_instances": 1024,
    "fs/inotify/max_user_watches": 524288,
    "vm/overcommit_memory": None,
    "vm/panic_on_oom": None,
    "kernel/panic": None,
    "kernel/panic_on_oops": None,
    "kernel/keys/root_maxkeys": None,
    "kernel/keys/root_maxbytes": None,
}


def are_saved() -> bool:
    """True if the machine's own values are saved, so that they can be restored."""
    return _file().exists()


def apply() -> None:
    """Save the machine's own values, unless they are saved already, and raise those that the cluster needs."""
    file = _file()
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({name: _sysctl(name).read_text().strip() for name in SYSCTLS}))
    for name, value in SYSCTLS.items():
        if value is not None and int(_sysctl(name).read_text()) < value:
            _sysctl(name).write_text(str(value))


def restore() -> None:
    """Restore the saved values, if there are any."""
    file = _file()
    if file.exists():
        for name, value in json.loads(file.read_text()).items():
            if _sysctl(name).read_text().strip() != value:
                _sysctl(name).write_text(value)
        file.unlink()


def _file() -> Path:
    return settings.state("kernel-settings.json")


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", name)
