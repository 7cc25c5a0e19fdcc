"""A Docker engine from Debian's packages, in a network and mount namespace of its own: starts and stops it.

`stop` keeps images, volumes and stopped containers. `undo` also restores the kernel settings, so that only the cache is
left of the engine.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from ci.cluster import settings
from ci.cluster.registryless import (
    control_groups,
    engine_folders,
    engine_network,
    engine_package,
    engine_processes,
    kernel_settings,
)
from ci.cluster.registryless.engine_folders import RUN, SOCKET
from ci.common.console import Failure, phase, run, say, wait_for

WRAPPER = Path(__file__).with_name("runc-here")
CAP_SYS_RESOURCE = 24

# The new sysfs belongs to the network namespace. It hides the control groups, so they are mounted again below it.
START = """set -eu
mount --make-rprivate /
mkdir -p {run}/cgroups
mount --rbind /sys/fs/cgroup {run}/cgroups
mount -t sysfs sysfs /sys
mount --rbind {run}/cgroups /sys/fs/cgroup
umount -l {run}/cgroups
exec dockerd --data-root {data} --exec-root {run}/docker --pidfile {pid_file} -H unix://{socket} \\
  --bip 172.30.0.1/24 --default-address-pool base={containers},size=24 --mtu {mtu} \\
  --exec-opt native.cgroupdriver=cgroupfs --cgroup-parent /{cgroup} --oom-score-adjust 0 {more}
"""


def environment() -> dict[str, str]:
    """Environment variables with which `docker` and `kind` reach this engine."""
    return {**os.environ, "DOCKER_HOST": f"unix://{SOCKET}", "PATH": engine_package.client_path()}


def exists() -> bool:
    """True if this machine has state of the engine, running or stopped."""
    return kernel_settings.are_saved()


def answers() -> bool:
    """True if the engine runs."""
    if not SOCKET.is_socket():
        return False
    return run(["docker", "version"], env=environment(), check=False, timeout=20).returncode == 0


def up() -> None:
    """Start the engine if it does not run.

    Raises:
        Failure: the user is not root, address ranges are in use, or the engine did not start; names its log.
    """
    if answers():
        return
    require_root()
    engine_package.install()
    engine_network.check_addresses()
    with phase("start Docker in a network namespace of its own"):
        engine_processes.end()  # left by a killed engine: its mounts are in a namespace that a new engine cannot see
        kernel_settings.apply()
        engine_network.connect()
        _start()
    say(f"Docker answers at unix://{SOCKET}")


def stop() -> None:
    """Stop the engine and all containers. Images, volumes and stopped containers stay on disk."""
    engine_processes.end()
    engine_network.disconnect()
    control_groups.remove()
    for mount in engine_folders.mounts():
        run(["umount", "-l", mount], check=False)
    shutil.rmtree(RUN, ignore_errors=True)


def undo() -> None:
    """Stop the engine and restore the kernel settings. Images stay in the cache."""
    stop()
    kernel_settings.restore()


def leftovers() -> list[str]:
    """Everything that the engine left on this machine outside the cache. Empty after `undo`."""
    left = [f"process {pid} ({name})" for pid, name in engine_processes.present().items()]
    left += [f"mount {mount}" for mount in engine_folders.mounts()]
    left += [f"control group {folder}" for folder in control_groups.present()]
    left += engine_network.leftovers()
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


def lacks_capability() -> bool:
    """True if root lacks CAP_SYS_RESOURCE and may not raise resource limits. Example: inside another container."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapBnd:"):
            return not int(line.split()[1], 16) >> CAP_SYS_RESOURCE & 1
    return False


def _start() -> None:
    data = engine_folders.data()
    for folder in (RUN, data, settings.state("log")):
        folder.mkdir(parents=True, exist_ok=True)
    more = ""
    if lacks_capability():
        more = f"--add-runtime here={WRAPPER} --default-runtime here"
    script = START.format(
        run=RUN,
        data=data,
        pid_file=engine_processes.PID_FILE,
        socket=SOCKET,
        containers=engine_network.CONTAINERS,
        mtu=engine_network.mtu(),
        cgroup=control_groups.CGROUP,
        more=more,
    )
    log = settings.state("log", "dockerd.log")
    command = ["nsenter", f"--net={engine_network.NAMESPACE_FILE}", "unshare", "--mount", "sh", "-c", script]
    with log.open("w") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env={**os.environ, "PATH": engine_package.engine_path()},
            start_new_session=True,
        )

    def ready() -> bool:
        if process.poll() is not None:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
            raise Failure(f"dockerd ended with code {process.returncode} (whole log: {log}):\n{tail}")
        return answers()

    wait_for(f"Docker (log: {log})", ready, 60)
    engine_network.open_ports()
