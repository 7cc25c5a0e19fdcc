"""A one-node cluster that reaches nothing outside its machine."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ci.cluster import processes, settings
from ci.console import run

TABLE = "inet house_closed"
GROUP = "house-closed"
RULES = f"""
table {TABLE} {{
  counter refused {{}}
  chain programs {{
    type filter hook output priority -10; policy accept;
    oifname {{ "lo", "{settings.BRIDGE}" }} accept
    ip daddr {{ {settings.POD_CIDR}, {settings.SERVICE_CIDR} }} accept
    fib daddr type local accept
    socket cgroupv2 level 1 "{{group}}" counter name refused reject
  }}
  chain pods {{
    type filter hook forward priority -10; policy accept;
    ip daddr {{ {settings.POD_CIDR}, {settings.SERVICE_CIDR} }} accept
    ip saddr {settings.POD_CIDR} counter name refused reject
  }}
}}
"""
CONNECT = "import socket; socket.create_connection(('{address}', {port}), timeout=5)"


@contextmanager
def cut() -> Iterator[Callable[[], int]]:
    """What pulls images (containerd, the kubelet) and all pods: no packet of theirs leaves this machine.

    Yields:
        the number of packets that were refused so far.
    """
    base = settings.CGROUPS / "unified"
    base = base if base.is_dir() else settings.CGROUPS
    group = base / GROUP
    group.mkdir(exist_ok=True)
    before = {}
    for name in ("containerd", "kubelet"):
        process = processes.running(name)
        assert process, f"{name} does not run"
        before[process.pid] = base / _group(process.pid).lstrip("/")
        (group / "cgroup.procs").write_text(str(process.pid))
    run(["nft", "-f", "-"], stdin=RULES.replace("{group}", str(group.relative_to(settings.CGROUPS))))
    try:
        _prove(group)
        yield _refused
    finally:
        run(["nft", "delete", "table", *TABLE.split()])
        for pid, place in before.items():
            (place / "cgroup.procs").write_text(str(pid))
        for child in (group / "cgroup.procs").read_text().split():  # the shims of containers that were started
            (base / "cgroup.procs").write_text(child)
        group.rmdir()


def _group(pid: int) -> str:
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return next(line.partition("::")[2] for line in lines if line.startswith("0::"))


def _prove(group: Path) -> None:
    """A program beside containerd is refused outside, as the rule's counter tells, and reaches the API server."""
    for address, port, allowed in (("192.0.2.1", 443, False), (settings.NODE_ADDRESS, settings.API_PORT, True)):
        connect = CONNECT.format(address=address, port=port)
        words = f'echo $$ > {group}/cgroup.procs; exec python3 -c "{connect}"'
        done = subprocess.run(["sh", "-c", words], capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode == 0) == allowed, f"{address}: {done.stderr[-300:]}"
    assert _refused() > 0


def _refused() -> int:
    words = run(["nft", "list", "counter", *TABLE.split(), "refused"]).stdout.split()
    return int(words[words.index("packets") + 1])
