"""Checks of the machine: processors, memory, disk, kernel settings, clock."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import time
from pathlib import Path

from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, ok, warn

GIB = 2**30
CLUSTER_MEMORY = 1.25 * GIB  # memory that Kubernetes itself uses on one node
COMFORT_MEMORY = 7.5 * GIB  # a machine sold with 8 GB
DISK = 20 * GIB  # images, their unpacked layers, first data
EVICTION = 0.85  # share of a disk at which a kubelet removes images, then pods
INSTANCES, WATCHES = 512, 65536
ROOT = Path("/")


def cpu(needs: Requirements, root: Path = ROOT) -> Result:
    """Compare processors with the sum of the pods' requests."""
    count = sum(line.startswith("processor") for line in (root / "proc/cpuinfo").read_text().splitlines())
    if count < 2 or count < needs.cpu:
        need = max(2, -(-needs.cpu // 1))
        return fail(
            "cpu",
            f"{count} processor(s), but the pods of {needs.env} request {needs.cpu:.1f}, and the minimum is 2",
            f"give the machine {need:.0f} processors",
        )
    return ok("cpu", f"{count} processors; the pods request {needs.cpu:.1f}")


def architecture(machine: str = "") -> Result:
    """Check the architecture: the images are built for one."""
    machine = machine or platform.machine()
    if machine not in ("x86_64", "amd64"):
        return fail(
            "architecture",
            f"this is {machine}, and the images are built for amd64: containers would end with `exec format error`",
            "use an amd64 machine, or build on this one (`make images`)",
        )
    return ok("architecture", machine)


def memory(needs: Requirements, root: Path = ROOT) -> Result:
    """Compare memory with the sum of the pods' requests."""
    rows = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
    total = next(int(row[1]) * 1024 for row in rows if row[0] == "MemTotal:")
    need = needs.memory + CLUSTER_MEMORY
    if total < need:
        return fail(
            "memory",
            f"{total / GIB:.1f} GiB, but pods ({needs.memory / GIB:.1f}) and Kubernetes need {need / GIB:.1f} GiB: "
            "some pods would stay Pending (Insufficient memory)",
            f"give the machine {need / GIB + 1:.0f} GiB, or switch components off (`<name>.enabled: false`)",
        )
    if total < COMFORT_MEMORY:
        return warn(
            "memory",
            f"{total / GIB:.1f} GiB is enough to start; a training may be killed (OOMKilled)",
            "give the machine 8 GiB",
        )
    return ok("memory", f"{total / GIB:.1f} GiB; the pods request {needs.memory / GIB:.1f}")


def disk(
    needs: Requirements,
    path: Path,
    present: bool = False,
    evicts: bool = True,
    usage: tuple[int, int, int] | None = None,
) -> Result:
    """Check free space for images (unless `present`) and volumes. Local volumes have no size limit.

    `evicts`: the kubelet removes images and pods when the disk is nearly full. kind switches that off.
    """
    while not path.exists():
        path = path.parent
    total, _, free = usage or shutil.disk_usage(path)
    need = 0 if present else DISK
    used = 1 - (free - need) / total
    limit = EVICTION if evicts else 1.0
    if free < need or 1 - free / total >= limit:
        why = f": at {EVICTION:.0%} used the kubelet removes images that cannot be pulled again, then pods"
        return fail(
            "disk",
            f"{free / GIB:.0f} of {total / GIB:.0f} GiB free at {path}, and {need / GIB:.0f} GiB are needed"
            + (why if evicts else ""),
            f"free space (`du -xh --max-depth=2 {path} | sort -h | tail`), or a larger disk at {path}",
        )
    if used >= limit or free - need < needs.volumes:
        return warn(
            "disk",
            f"{free / GIB:.0f} of {total / GIB:.0f} GiB free at {path}; once the volumes hold their "
            f"{needs.volumes / GIB:.0f} GiB it is full, and "
            + ("a full disk evicts every pod" if evicts else "every store stops"),
            f"a larger disk at {path}, or smaller volumes and retention in values/{needs.env}.yaml",
        )
    return ok("disk", f"{free / GIB:.0f} of {total / GIB:.0f} GiB free at {path}")


def cgroups(root: Path = ROOT, running: bool = False) -> Result:
    """Check for cgroup v2 with the controllers that limit pods."""
    controllers = root / "sys/fs/cgroup/cgroup.controllers"
    if not controllers.exists():
        what = "cgroup v1: kubelets from 1.35 on refuse to start on it (failCgroupV1)"
        fix = (
            "add systemd.unified_cgroup_hierarchy=1 to the kernel command line (/etc/default/grub), update-grub, reboot"
        )
        if running:
            return warn("cgroups", f"{what}; the kubelet of this cluster runs on it nevertheless", fix)
        return fail("cgroups", what, fix)
    missing = sorted({"cpu", "memory", "pids"} - set(controllers.read_text().split()))
    if missing:
        return fail(
            "cgroups",
            f"cgroup v2 without the controller(s) {', '.join(missing)}: limits of pods cannot be set",
            "add cgroup_enable=memory cgroup_memory=1 to the kernel command line, reboot",
        )
    return ok("cgroups", "v2 with cpu, memory and pids")


def inotify(root: Path = ROOT) -> Result:
    """Check the inotify limits. A kubelet, container logs and Python's file watchers use them."""
    limits = {
        name: int((root / "proc/sys/fs/inotify" / name).read_text())
        for name in ("max_user_instances", "max_user_watches")
    }
    least = {"max_user_instances": INSTANCES, "max_user_watches": WATCHES}
    low = {name: least[name] for name, value in limits.items() if value < least[name]}
    if not low:
        return ok("inotify", ", ".join(f"{name} {value}" for name, value in limits.items()))
    settings = " ".join(f"fs.inotify.{name}={value}" for name, value in low.items())
    return warn(
        "inotify",
        f"{', '.join(f'{name} is {limits[name]}' for name in low)}: pods may end with `too many open files`",
        f"sysctl -w {settings}, and the same in /etc/sysctl.d/90-house.conf",
    )


def clock(needs: Requirements, now: float = 0, synchronised: bool | None = None) -> Result:
    """Check the clock. Certificates are invalid if it is before this release. Without a time server it drifts."""
    now = now or time.time()
    if now < needs.made:
        return fail(
            "clock",
            f"it says {_date(now)}, and this release was made at {_date(needs.made)}: "
            "certificates would be `not yet valid`",
            "timedatectl set-ntp true, or without a time server: date -u -s '<now>' && hwclock -w",
        )
    if not (_synchronised() if synchronised is None else synchronised):
        return warn(
            "clock",
            f"{_date(now)}, and no time server sets it: tokens and certificates fail once it is minutes off",
            "timedatectl set-ntp true, with a time server of your network in /etc/systemd/timesyncd.conf",
        )
    return ok("clock", f"{_date(now)}, synchronised")


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _synchronised() -> bool:
    """Whether the kernel's clock is synchronised (adjtimex, STA_UNSYNC)."""
    record = (ctypes.c_long * 64)()  # struct timex, longer than any of its layouts: modes, offset, freq, errors, status
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(record)) < 0:
        return True  # the kernel gives no state: do not warn
    status = record[5] & 0xFFFFFFFF
    return not status & 0x40


def default_data_dir() -> Path:
    """Folder where the cluster of this machine keeps images and volumes."""
    own = Path(os.environ.get("HOUSE_STATE_DIR", "/var/lib/house-platform"))
    return own if own.exists() else Path("/var/lib/rancher")
