"""A Docker engine from Debian's packages, in a network and mount namespace of its own.

The engine adds one network namespace, one pair of interfaces, one nftables table (so that containers reach everything
that the machine reaches) and the kernel settings in `SYSCTLS`. `undo` removes all of this. The rest of the machine's
network does not change.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from ci.cluster import settings
from ci.common import debian
from ci.common.console import Failure, phase, run, say, wait_for
from ci.common.paths import cache_dir

PACKAGES = ("containerd", "iproute2", "iptables", "libdevmapper1.02.1", "nftables", "procps", "runc", "tini")
NAMESPACE = "house"
INTERFACE = "house0"  # the machine's end of the pair; the engine's end is called `uplink`
MACHINE_ADDRESS = "172.31.255.1"  # address at which nodes reach the machine
ENGINE_ADDRESS = "172.31.255.2"  # address of the ports that containers publish
LINK = "172.31.255.0/30"
CONTAINERS = "172.30.0.0/16"  # addresses of Docker's networks; only this machine reaches them
NFT_TABLE = "ip house_nat"
CGROUP = "house-platform"
CGROUPS = Path("/sys/fs/cgroup")
# Short, because the length of a socket's path is limited. The folder is gone after a restart of the machine.
RUN = Path("/run/house-platform")
SOCKET = RUN / "docker.sock"
WRAPPER = Path(__file__).with_name("runc-here")
CAP_SYS_RESOURCE = 24

# Kernel settings that the cluster needs (a number) or that a kubelet changes (None). `undo` restores them.
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

# The new sysfs belongs to the network namespace. It hides the control groups, so they are mounted again below it.
START = """set -eu
mount --make-rprivate /
mkdir -p {run}/cgroups
mount --rbind /sys/fs/cgroup {run}/cgroups
mount -t sysfs sysfs /sys
mount --rbind {run}/cgroups /sys/fs/cgroup
umount -l {run}/cgroups
exec dockerd --data-root {data} --exec-root {run}/docker --pidfile {run}/docker.pid -H unix://{socket} \\
  --bip 172.30.0.1/24 --default-address-pool base={containers},size=24 --mtu {mtu} \\
  --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{cgroup} --oom-score-adjust 0 {more}
"""


def environment() -> dict[str, str]:
    """Environment variables with which `docker` and `kind` reach this engine."""
    path = f"{_package() / 'usr' / 'bin'}:{os.environ['PATH']}"
    return {**os.environ, "DOCKER_HOST": f"unix://{SOCKET}", "PATH": path}


def exists() -> bool:
    """True if this machine has state of the engine, running or stopped."""
    return _before().exists()


def answers() -> bool:
    """True if the engine runs."""
    if not SOCKET.is_socket():
        return False
    return run(["docker", "version"], env=environment(), check=False, timeout=20).returncode == 0


def install() -> None:
    """Install the packages that are missing, and unpack Docker into the cache without installing it.

    An installed Docker package would start a second engine on the machine's own network.

    Raises:
        Failure: this is not Debian, not root, or apt failed.
    """
    debian.install(PACKAGES)
    if _unpacked():
        return
    partial = _package().with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    log = cache_dir() / "log" / "apt.log"
    with phase("unpack Docker from Debian's packages"):
        with debian.alone():
            if not debian.available("docker.io"):
                run(["apt-get", "update", "-q"], log=log)
            # Debian 13 has a separate package for the client
            names = [name for name in ("docker.io", "docker-cli") if debian.available(name)]
            run(["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *names], cwd=partial, log=log)
        for package in partial.glob("*.deb"):
            run(["dpkg-deb", "-x", package, partial])
            package.unlink()
        shutil.rmtree(_package(), ignore_errors=True)
        partial.replace(_package())


def up() -> None:
    """Start the engine if it does not run.

    Raises:
        Failure: the user is not root, address ranges are in use, or the engine did not start; names its log.
    """
    if answers():
        return
    require_root()
    install()
    check_addresses()
    with phase("start Docker in a network namespace of its own"):
        _end_processes()  # left by a killed engine: its mounts are in a namespace that a new engine cannot see
        _save_settings()
        _connect()
        _start()
    say(f"Docker answers at unix://{SOCKET}")


def stop() -> None:
    """Stop the engine and all containers. Images, volumes and stopped containers stay on disk."""
    _end_processes()
    _disconnect()
    for folder in _cgroups():
        with contextlib.suppress(OSError):  # the kernel removed it with its last process
            folder.rmdir()
    for mount in _mounts():
        run(["umount", "-l", mount], check=False)
    shutil.rmtree(RUN, ignore_errors=True)


def undo() -> None:
    """Stop the engine and restore the kernel settings. Images stay in the cache."""
    stop()
    before = _before()
    if before.exists():
        for name, value in json.loads(before.read_text()).items():
            if _sysctl(name).read_text().strip() != value:
                _sysctl(name).write_text(value)
        before.unlink()


def leftovers() -> list[str]:
    """Everything that the engine left on this machine outside the cache. Empty after `undo`."""
    left = [f"process {pid} ({name})" for pid, name in _processes().items()]
    left += [f"mount {mount}" for mount in _mounts()]
    left += [f"control group {folder}" for folder in _cgroups()]
    if Path("/sys/class/net", INTERFACE).exists():
        left.append(f"interface {INTERFACE}")
    if Path("/run/netns", NAMESPACE).exists():
        left.append(f"network namespace {NAMESPACE}")
    if _has_table():
        left.append(f"nft table {NFT_TABLE}")
    return left + [f"folder {folder}" for folder in (RUN,) if folder.exists()]


def require_root() -> None:
    """Refuse to continue without root.

    Raises:
        Failure: this process does not run as root.
    """
    if os.geteuid() != 0:
        raise Failure(
            "no Docker engine answers, and only root can start one from Debian's packages: start Docker "
            "(`sudo systemctl start docker`), or run this as root, or use an existing cluster with CLUSTER=current"
        )


def check_addresses() -> None:
    """Check that no route of this machine overlaps the engine's address ranges.

    Raises:
        Failure: names every overlap.
    """
    overlaps = []
    for route in json.loads(run(["ip", "-4", "-j", "route"]).stdout or "[]"):
        target = route["dst"]
        if target == "default" or route.get("dev") == INTERFACE:
            continue
        overlaps += [
            f"the route to {target} by {route.get('dev', '?')} overlaps {ours}"
            for ours in (CONTAINERS, LINK)
            if IPv4Network(ours).overlaps(IPv4Network(target))
        ]
    if overlaps:
        raise Failure(
            "the engine's address ranges are in use on this machine:\n  "
            + "\n  ".join(overlaps)
            + "\nInstall and start Docker yourself, or use an existing cluster with CLUSTER=current."
        )


def lacks_capability() -> bool:
    """True if root lacks CAP_SYS_RESOURCE and may not raise resource limits. Example: inside another container."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1
    return False


def _package() -> Path:
    return cache_dir() / "docker-package"


def _unpacked() -> bool:
    return (_package() / "usr" / "sbin" / "dockerd").exists()


def _before() -> Path:
    return settings.state("kernel-settings.json")


def _sysctl(name: str) -> Path:
    return Path("/proc/sys", name)


def _save_settings() -> None:
    before = _before()
    if not before.exists():
        before.parent.mkdir(parents=True, exist_ok=True)
        before.write_text(json.dumps({name: _sysctl(name).read_text().strip() for name in SYSCTLS}))
    for name, value in SYSCTLS.items():
        if value is not None and int(_sysctl(name).read_text()) < value:
            _sysctl(name).write_text(str(value))


def _mtu() -> int:
    """MTU of the machine's default route. Containers must not send larger packets."""
    routes = json.loads(run(["ip", "-4", "-j", "route", "show", "default"]).stdout or "[]")
    files = [Path("/sys/class/net", route["dev"], "mtu") for route in routes if "dev" in route]
    return min([int(file.read_text()) for file in files if file.exists()], default=1500)


def _connect() -> None:
    """Create the network namespace and its link to the machine."""
    if not Path("/run/netns", NAMESPACE).exists():
        run(["ip", "netns", "add", NAMESPACE])
    if not Path("/sys/class/net", INTERFACE).exists():
        peer = ["type", "veth", "peer", "name", "uplink", "netns", NAMESPACE]
        run(["ip", "link", "add", INTERFACE, "mtu", str(_mtu()), *peer])
    run(["ip", "addr", "replace", f"{MACHINE_ADDRESS}/30", "dev", INTERFACE])
    run(["ip", "link", "set", INTERFACE, "up"])
    run(["ip", "route", "replace", CONTAINERS, "via", ENGINE_ADDRESS, "dev", INTERFACE])
    inside = ["ip", "-n", NAMESPACE]
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "link", "set", "uplink", "mtu", str(_mtu())])
    run([*inside, "addr", "replace", f"{ENGINE_ADDRESS}/30", "dev", "uplink"])
    run([*inside, "link", "set", "uplink", "up"])
    run([*inside, "route", "replace", "default", "via", MACHINE_ADDRESS])
    rule = f"ip saddr {LINK} oifname != {INTERFACE} masquerade"
    chain = f"chain out {{ type nat hook postrouting priority 100; {rule}; }};"
    run(["nft", "-f", "-"], stdin=f"table {NFT_TABLE}\ndelete table {NFT_TABLE}\ntable {NFT_TABLE} {{ {chain} }}\n")


def _start() -> None:
    data = cache_dir() / "docker"
    for folder in (RUN, data, settings.state("log")):
        folder.mkdir(parents=True, exist_ok=True)
    more = ""
    if lacks_capability():
        more = f"--add-runtime here={WRAPPER} --default-runtime here"
    script = START.format(
        run=RUN, data=data, socket=SOCKET, containers=CONTAINERS, mtu=_mtu(), cgroup=CGROUP, more=more
    )
    log = settings.state("log", "dockerd.log")
    path = f"{_package() / 'usr' / 'sbin'}:{_package() / 'usr' / 'bin'}:{os.environ['PATH']}"
    command = ["nsenter", f"--net=/run/netns/{NAMESPACE}", "unshare", "--mount", "sh", "-c", script]
    with log.open("w") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )

    def ready() -> bool:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise Failure(f"dockerd ended with code {process.returncode} (whole log: {log}):\n{tail}")
        return answers()

    wait_for(f"Docker (log: {log})", ready, 60)
    # lets the machine reach every port of a node, as with Docker on the machine's own network
    rule = ["DOCKER-USER", "-i", "uplink", "-j", "ACCEPT"]
    inside = ["nsenter", f"--net=/run/netns/{NAMESPACE}", "iptables"]
    if run([*inside, "-C", *rule], check=False).returncode:
        run([*inside, "-I", *rule])


def _disconnect() -> None:
    if Path("/sys/class/net", INTERFACE).exists():
        run(["ip", "link", "del", INTERFACE], check=False)
    if Path("/run/netns", NAMESPACE).exists():
        run(["ip", "netns", "del", NAMESPACE], check=False)
    if _has_table():
        run(["nft", "delete", "table", *NFT_TABLE.split()], check=False)


def _has_table() -> bool:
    if not shutil.which("nft"):
        return False
    return f"table {NFT_TABLE}" in run(["nft", "list", "tables"], check=False).stdout.splitlines()


def _end_processes(patience: float = 30) -> None:
    """Stop the engine, then kill processes that the engine or its containers left."""
    daemon = _read_pid()
    if daemon and daemon in _processes():
        os.kill(daemon, signal.SIGTERM)
        _await_end({daemon}, patience)
    for number, seconds in ((signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        left = set(_processes())
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if left:
            _await_end(left, seconds)


def _await_end(pids: set[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while pids & set(_processes()) and time.monotonic() < deadline:
        time.sleep(0.1)


def _read_pid() -> int | None:
    try:
        return int((RUN / "docker.pid").read_text())
    except (OSError, ValueError):
        return None


def _processes() -> dict[int, str]:
    """Processes of the engine: pid to name.

    They are recognised by the network namespace, the control groups or the folder in the command line.
    """
    present = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if state != "Z" and _is_ours(folder):
                present[int(folder.name)] = (folder / "comm").read_text().strip()
        except OSError:  # the process ended in the meantime
            continue
    return present


def _is_ours(process: Path) -> bool:
    program = (process / "comm").read_text().strip()
    words = (process / "cmdline").read_bytes()
    if program in ("dockerd", "containerd", "containerd-shim") or program.startswith("containerd-shim"):
        return str(RUN).encode() in words
    if any(line.partition("::")[2].startswith(f"/{CGROUP}/") or f":/{CGROUP}/" in line
           for line in (process / "cgroup").read_text().splitlines()):  # fmt: skip
        return True
    namespace = Path("/run/netns", NAMESPACE)
    return namespace.exists() and (process / "ns" / "net").stat().st_ino == namespace.stat().st_ino


def _mounts() -> list[str]:
    """Mounts of the engine in the machine's mount namespace, the deepest first."""
    roots = (f"{RUN}/", f"{cache_dir() / 'docker'}/")
    points = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    return sorted((point for point in points if f"{point}/".startswith(roots)), reverse=True)


def _cgroups() -> list[Path]:
    """The engine's control groups in every hierarchy, the deepest first."""
    return sorted(_walk_cgroups(), key=lambda folder: len(folder.parts), reverse=True)


def _walk_cgroups() -> Iterator[Path]:
    for top in [CGROUPS / CGROUP, *CGROUPS.glob(f"*/{CGROUP}")]:
        if top.is_dir() and not top.is_symlink():
            yield from (Path(folder) for folder, _, _ in os.walk(top))
