"""What the cluster changes on the machine, and how all of it is found and taken back."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from ci.cluster import processes, settings
from ci.cluster.configs import nat_rules
from ci.cluster.settings import state
from ci.console import Failure, run

# Kernel settings that the cluster needs (value) or that the kubelet changes (None); `down` puts them back.
SYSCTLS: dict[str, int | None] = {
    "net/ipv4/ip_forward": 1,
    "fs/inotify/max_user_instances": 1024,
    "vm/overcommit_memory": None,
    "vm/panic_on_oom": None,
    "kernel/panic": None,
    "kernel/panic_on_oops": None,
    "kernel/keys/root_maxkeys": None,
    "kernel/keys/root_maxbytes": None,
}

# Folders at places that containerd, CNI and the kubelet do not let us choose; removed if they were not there before.
FIXED_FOLDERS = ("/run/containerd", "/var/lib/cni", "/var/lib/kubelet", "/var/log/containers")


def require_root() -> None:
    """Refuse to go on as another user.

    Raises:
        Failure: this process is not root's.
    """
    if os.geteuid() != 0:
        raise Failure(
            "the one-node cluster needs root (mounts, network namespaces, cgroups): run it with sudo, or use another "
            "cluster: CLUSTER=kind (Docker and kind), CLUSTER=current (the current kubeconfig context)"
        )


def check_free() -> None:
    """Check that nothing else on this machine uses the cluster's ports and networks.

    Raises:
        Failure: names every conflict.
    """
    conflicts = [
        f"port {port} ({name}) is in use"
        for name, ports in settings.PORTS.items()
        if not processes.running(name)
        for port in ports
        if _in_use(port)
    ]
    ours = [IPv4Network(cidr) for cidr in (settings.POD_CIDR, settings.SERVICE_CIDR, settings.NODE_ADDRESS)]
    for route in json.loads(run(["ip", "-4", "-j", "route"]).stdout or "[]"):
        device, target = route.get("dev", ""), route["dst"]
        if target != "default" and device != settings.BRIDGE and not device.startswith("veth"):
            conflicts += [
                f"the route to {target} by {device} overlaps {net}" for net in ours if net.overlaps(IPv4Network(target))
            ]
    if conflicts:
        raise Failure(
            "another cluster or program is in the way:\n  "
            + "\n  ".join(conflicts)
            + "\nend it, or use the cluster that is there with CLUSTER=current"
        )


def set_up() -> None:
    """Set kernel settings, bridge and masquerading up."""
    before = state("before.json")
    if not before.exists():
        values = {name: _sysctl(name).read_text().strip() for name in SYSCTLS if _sysctl(name).exists()}
        absent = [folder for folder in FIXED_FOLDERS if not Path(folder).exists()]
        before.write_text(json.dumps({"sysctls": values, "absent": absent}))
    for name, value in SYSCTLS.items():
        if value is not None and int(_sysctl(name).read_text()) < value:
            _sysctl(name).write_text(str(value))
    if not Path("/sys/class/net", settings.BRIDGE).exists():
        run(["ip", "link", "add", settings.BRIDGE, "type", "bridge"])
    run(["ip", "addr", "replace", f"{settings.NODE_ADDRESS}/32", "dev", settings.BRIDGE])
    run(["ip", "link", "set", settings.BRIDGE, "up"])
    run(["nft", "-f", "-"], stdin=nat_rules())


def mtu() -> int:
    """Largest packet of the machine's way out; pods may not send larger ones."""
    routes = json.loads(run(["ip", "-4", "-j", "route", "show", "default"]).stdout or "[]")
    devices = [Path("/sys/class/net", route["dev"], "mtu") for route in routes if "dev" in route]
    return min([int(file.read_text()) for file in devices if file.exists()], default=1500)


def end_containers(patience: float = 10) -> None:
    """End all containers: SIGTERM to the first process of each, then SIGKILL to what is left."""
    processes.end([pid for pid in _pod_processes() if _is_first(pid)], patience)
    processes.end(_pod_processes(), 0)


def take_back() -> None:
    """Remove everything but the state folder: processes, containers, mounts, namespaces, interfaces, rules, cgroups."""
    processes.end(pid for pid, name in processes.strays().items() if not name.startswith("containerd"))
    end_containers()
    processes.end(processes.strays())
    for mount in _mounts():
        if run(["umount", mount], check=False).returncode:
            run(["umount", "-l", mount], check=False)
    for table in _tables():
        run(["nft", "delete", "table", *table.split()], check=False)
    for device in _interfaces():
        run(["ip", "link", "del", device], check=False)
    for folder in _cgroups():
        with contextlib.suppress(FileNotFoundError):  # it went with the last container
            folder.rmdir()
    shutil.rmtree(settings.RUN, ignore_errors=True)


def restore() -> None:
    """Put kernel settings back as they were before the first start, and remove folders that were not there then."""
    saved = state("before.json")
    before = json.loads(saved.read_text()) if saved.exists() else {"sysctls": {}, "absent": []}
    for name, value in before["sysctls"].items():
        if _sysctl(name).read_text().strip() != value:
            _sysctl(name).write_text(value)
    for folder in before["absent"]:
        shutil.rmtree(folder, ignore_errors=True)


def leftovers() -> list[str]:
    """Everything of the cluster that is still on this machine, the cache aside; empty after `down`."""
    found = [f"process {pid} ({name})" for pid, name in processes.strays().items()]
    found += [f"container process {pid}" for pid in _pod_processes()]
    found += [f"mount {mount}" for mount in _mounts()]
    found += [f"nft table {table}" for table in _tables()]
    found += [f"interface {device}" for device in _interfaces()]
    found += [f"cgroup {folder}" for folder in _cgroups()]
    found += [f"file {file}" for file in Path("/var/lib/cni/results").glob("house-*")]
    found += [f"link {link}" for link in Path("/var/log/containers").glob("*") if state() in link.readlink().parents]
    return found + [f"folder {folder}" for folder in (settings.RUN, state()) if folder.exists()]


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", name)


def _in_use(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - bound for a moment, never listened on
        except OSError:
            return True
    return False


def _mounts() -> list[str]:
    """Mounts under the state folder and the run folder, the deepest first."""
    roots = tuple(f"{root}/" for root in (state(), settings.RUN))
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if f"{point}/".startswith(roots)), reverse=True)


def _tables() -> list[str]:
    """The cluster's nft tables that there are; none where nft was never installed."""
    present = run(["nft", "list", "tables"], check=False).stdout.splitlines() if shutil.which("nft") else []
    return [table for table in settings.NFT_TABLES if f"table {table}" in present]


def _interfaces() -> list[str]:
    """The bridge and the machine's ends of the pods' interface pairs, which have a route into the pods' network."""
    if not shutil.which("ip"):
        return []
    bridge = [settings.BRIDGE] if Path("/sys/class/net", settings.BRIDGE).exists() else []
    routes = json.loads(run(["ip", "-4", "-j", "route"], check=False).stdout or "[]")
    pods = IPv4Network(settings.POD_CIDR)
    return bridge + sorted(
        {
            route["dev"]
            for route in routes
            if route["dst"] != "default"
            and route.get("dev", "").startswith("veth")
            and IPv4Network(route["dst"]).subnet_of(pods)
        }
    )


def _cgroups() -> list[Path]:
    """The pods' control groups in every hierarchy, the deepest first."""
    return sorted(_walk_cgroups(), key=lambda folder: len(folder.parts), reverse=True)


def _walk_cgroups() -> Iterator[Path]:
    for top in [settings.CGROUPS / "kubepods", *settings.CGROUPS.glob("*/kubepods")]:
        if top.is_dir() and not top.is_symlink():
            yield from (Path(folder) for folder, _, _ in os.walk(top))  # which passes over what vanishes meanwhile


def _pod_processes() -> set[int]:
    """Processes in the pods' control groups."""
    return {pid for folder in _cgroups() for pid in _members(folder)}


def _members(group: Path) -> list[int]:
    """Processes of a control group; none of one that goes with its container while we look."""
    try:
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def _is_first(pid: int) -> bool:
    """True for the first process of a process-id namespace, which is a container's own program."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("NSpid:") and line.split()[-1] == "1" for line in lines)
