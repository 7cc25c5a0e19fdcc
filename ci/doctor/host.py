"""The machine: processors, memory, disk, kernel settings, clock."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import time
from pathlib import Path

from ci.doctor.result import Expected, Result, fail, ok, warn

GIB = 2**30
CLUSTER_MEMORY = 1.25 * GIB  # what Kubernetes itself takes on one node
COMFORT_MEMORY = 7.5 * GIB  # a machine sold with 8 GB
DISK = 20 * GIB  # images, their unpacked layers, first data
EVICTION = 0.85  # share of a disk at which a kubelet removes images, then pods
INSTANCES, WATCHES = 512, 65536
ROOT = Path("/")


def cpu(expected: Expected, root: Path = ROOT) -> Result:
    """Processors against the sum of what the pods ask for."""
    count = sum(line.startswith("processor") for line in (root / "proc/cpuinfo").read_text().splitlines())
    if count < 2 or count < expected.cpu:
        need = max(2, -(-expected.cpu // 1))
        return fail(
            "cpu",
            f"{count} processor(s), but the pods of {expected.env} ask for {expected.cpu:.1f} and two are the least",
            f"give the machine {need:.0f} processors",
        )
    return ok("cpu", f"{count} processors; the pods ask for {expected.cpu:.1f}")


def architecture(machine: str = "") -> Result:
    """The images are for one kind of processor."""
    machine = machine or platform.machine()
    if machine not in ("x86_64", "amd64"):
        return fail(
            "architecture",
            f"this is {machine}, and the images are built for amd64: containers would end with `exec format error`",
            "use an amd64 machine, or build on this one (`make images`)",
        )
    return ok("architecture", machine)


def memory(expected: Expected, root: Path = ROOT) -> Result:
    """Memory against the sum of what the pods ask for."""
    rows = (line.split() for line in (root / "proc/meminfo").read_text().splitlines())
    total = next(int(row[1]) * 1024 for row in rows if row[0] == "MemTotal:")
    need = expected.memory + CLUSTER_MEMORY
    if total < need:
        return fail(
            "memory",
            f"{total / GIB:.1f} GiB, but pods ({expected.memory / GIB:.1f}) and Kubernetes need {need / GIB:.1f} GiB: "
            "some pods would stay Pending (Insufficient memory)",
            f"give the machine {need / GIB + 1:.0f} GiB, or switch components off (`<name>.enabled: false`)",
        )
    if total < COMFORT_MEMORY:
        return warn(
            "memory",
            f"{total / GIB:.1f} GiB is enough to start; a training may be killed (OOMKilled)",
            "give the machine 8 GiB",
        )
    return ok("memory", f"{total / GIB:.1f} GiB; the pods ask for {expected.memory / GIB:.1f}")


def disk(expected: Expected, path: Path, present: bool = False, usage: tuple[int, int, int] | None = None) -> Result:
    """Room where the cluster keeps images (unless `present`) and volumes; local volumes have no limit of their own."""
    while not path.exists():
        path = path.parent
    total, _, free = usage or shutil.disk_usage(path)
    need = 0 if present else DISK
    used = 1 - (free - need) / total
    if free < need or 1 - free / total >= EVICTION:
        return fail(
            "disk",
            f"{free / GIB:.0f} of {total / GIB:.0f} GiB free at {path}, and {need / GIB:.0f} GiB are needed: at "
            f"{EVICTION:.0%} used the kubelet removes images that cannot be pulled again, then pods",
            f"free space (`du -xh --max-depth=2 {path} | sort -h | tail`), or a larger disk at {path}",
        )
    if used >= EVICTION or free - need < expected.volumes:
        return warn(
            "disk",
            f"{free / GIB:.0f} of {total / GIB:.0f} GiB free at {path}; once the volumes hold their "
            f"{expected.volumes / GIB:.0f} GiB it is full, and a full disk evicts every pod",
            f"a larger disk at {path}, or smaller volumes and retention in values/{expected.env}.yaml",
        )
    return ok("disk", f"{free / GIB:.0f} of {total / GIB:.0f} GiB free at {path}")


def cgroups(root: Path = ROOT, running: bool = False) -> Result:
    """Version 2 with the controllers that limit pods."""
    controllers = root / "sys/fs/cgroup/cgroup.controllers"
    if not controllers.exists():
        what = "cgroup v1: kubelets from 1.35 on refuse to start on it (failCgroupV1)"
        mend = (
            "add systemd.unified_cgroup_hierarchy=1 to the kernel command line (/etc/default/grub), update-grub, reboot"
        )
        if running:
            return warn("cgroups", f"{what}; this cluster's runs nevertheless", mend)
        return fail("cgroups", what, mend)
    missing = sorted({"cpu", "memory", "pids"} - set(controllers.read_text().split()))
    if missing:
        return fail(
            "cgroups",
            f"cgroup v2 without the controller(s) {', '.join(missing)}: limits of pods cannot be set",
            "add cgroup_enable=memory cgroup_memory=1 to the kernel command line, reboot",
        )
    return ok("cgroups", "v2 with cpu, memory and pids")


def inotify(root: Path = ROOT) -> Result:
    """Limits that a kubelet, containers' logs and Python's watchers use up."""
    found = {
        name: int((root / "proc/sys/fs/inotify" / name).read_text())
        for name in ("max_user_instances", "max_user_watches")
    }
    least = {"max_user_instances": INSTANCES, "max_user_watches": WATCHES}
    low = {name: least[name] for name, value in found.items() if value < least[name]}
    if not low:
        return ok("inotify", ", ".join(f"{name} {value}" for name, value in found.items()))
    settings = " ".join(f"fs.inotify.{name}={value}" for name, value in low.items())
    return warn(
        "inotify",
        f"{', '.join(f'{name} is {found[name]}' for name in low)}: pods may end with `too many open files`",
        f"sysctl -w {settings}, and the same in /etc/sysctl.d/90-house.conf",
    )


def clock(expected: Expected, now: float = 0, synchronised: bool | None = None) -> Result:
    """A clock before this release makes every certificate invalid; one that nobody sets drifts there."""
    now = now or time.time()
    if now < expected.made:
        return fail(
            "clock",
            f"it says {_date(now)}, and this release was made at {_date(expected.made)}: "
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
    """What the kernel says of its clock (adjtimex, STA_UNSYNC)."""
    record = (ctypes.c_long * 64)()  # struct timex, longer than any of its layouts: modes, offset, freq, errors, status
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.adjtimex(ctypes.byref(record)) < 0:
        return True  # the kernel does not tell: nothing to warn of
    status = record[5] & 0xFFFFFFFF
    return not status & 0x40


def default_data_dir() -> Path:
    """Where the cluster of this machine keeps images and volumes."""
    own = Path(os.environ.get("HOUSE_STATE_DIR", "/var/lib/house-platform"))
    return own if own.exists() else Path("/var/lib/rancher")
