"""Checks of the machine: each test injects one fault and expects its message and its fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.doctor import host
from ci.doctor.requirements import Requirements

GIB = 2**30
NEEDS = Requirements("vm", made=1_790_000_000, cpu=1.5, memory=2 * GIB, volumes=30 * GIB)
LATER = NEEDS.made + 60


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A healthy machine's kernel files."""
    files = {
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: x\nprocessor\t: 1\n",
        "proc/meminfo": f"MemTotal:  {8 * GIB // 1024} kB\nMemFree: 1 kB\n",
        "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids\n",
        "proc/sys/fs/inotify/max_user_instances": "512\n",
        "proc/sys/fs/inotify/max_user_watches": "65536\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_healthy_machine_is_ok(root: Path) -> None:
    result = [host.cpu(NEEDS, root), host.memory(NEEDS, root), host.cgroups(root), host.inotify(root),
             host.architecture("x86_64"), host.clock(NEEDS, LATER, True),
             host.disk(NEEDS, root, usage=(100 * GIB, 20 * GIB, 80 * GIB))]  # fmt: skip
    assert [one for one in result if one.level != "ok"] == []


def test_one_processor(root: Path) -> None:
    (root / "proc/cpuinfo").write_text("processor : 0\n")
    result = host.cpu(NEEDS, root)
    assert (result.level, result.fix) == ("fail", "give the machine 2 processors")
    assert result.what == "1 processor(s), but the pods of vm request 1.5, and the minimum is 2"


def test_fewer_processors_than_the_pods_ask_for(root: Path) -> None:
    assert host.cpu(Requirements("vm", cpu=3.2), root).fix == "give the machine 4 processors"


def test_other_architecture() -> None:
    result = host.architecture("aarch64")
    assert result.level == "fail"
    assert "`exec format error`" in result.what


def test_too_little_memory_for_the_requests(root: Path) -> None:
    (root / "proc/meminfo").write_text(f"MemTotal: {3 * GIB // 1024} kB\n")
    result = host.memory(NEEDS, root)
    assert result.level == "fail"
    assert "3.0 GiB, but pods (2.0) and Kubernetes need 3.2 GiB" in result.what
    assert "give the machine 4 GiB" in result.fix


def test_memory_that_is_enough_to_start_only(root: Path) -> None:
    (root / "proc/meminfo").write_text(f"MemTotal: {4 * GIB // 1024} kB\n")
    assert (host.memory(NEEDS, root).level, "OOMKilled" in host.memory(NEEDS, root).what) == ("warn", True)


@pytest.mark.parametrize(
    ("usage", "present", "evicts", "level"),
    [
        ((100 * GIB, 90 * GIB, 10 * GIB), False, True, "fail"),  # no room for the images
        ((100 * GIB, 90 * GIB, 10 * GIB), False, False, "fail"),
        ((400 * GIB, 350 * GIB, 50 * GIB), True, True, "fail"),  # room, but the kubelet evicts already
        ((400 * GIB, 350 * GIB, 50 * GIB), True, False, "ok"),  # kind's kubelets do not evict
        ((120 * GIB, 80 * GIB, 40 * GIB), False, True, "warn"),  # the volumes will not fit
        ((60 * GIB, 25 * GIB, 35 * GIB), True, True, "ok"),  # the images are there
    ],
)
def test_disk(tmp_path: Path, usage: tuple[int, int, int], present: bool, evicts: bool, level: str) -> None:
    result = host.disk(NEEDS, tmp_path / "not" / "made" / "yet", present, evicts, usage)
    assert result.level == level
    assert str(tmp_path) in result.what
    assert bool(result.fix) == (level != "ok")


def test_cgroup_v1(root: Path) -> None:
    (root / "sys/fs/cgroup/cgroup.controllers").unlink()
    result = host.cgroups(root)
    assert (result.level, result.what) == (
        "fail", "cgroup v1: kubelets from 1.35 on refuse to start on it (failCgroupV1)",
    )  # fmt: skip
    assert "systemd.unified_cgroup_hierarchy=1" in result.fix
    assert host.cgroups(root, running=True).level == "warn"


def test_cgroup_v2_without_memory(root: Path) -> None:
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpuset cpu io pids\n")
    result = host.cgroups(root)
    assert (result.level, "without the controller(s) memory" in result.what) == ("fail", True)
    assert "cgroup_enable=memory" in result.fix


def test_low_inotify_limits(root: Path) -> None:
    (root / "proc/sys/fs/inotify/max_user_instances").write_text("128\n")
    result = host.inotify(root)
    assert (result.level, result.what) == (
        "warn", "max_user_instances is 128: pods may end with `too many open files`",
    )  # fmt: skip
    assert result.fix.startswith("sysctl -w fs.inotify.max_user_instances=512,")


def test_clock_before_the_release() -> None:
    result = host.clock(NEEDS, NEEDS.made - 86400, True)
    assert (result.level, "`not yet valid`" in result.what) == ("fail", True)


def test_clock_that_nobody_sets() -> None:
    result = host.clock(NEEDS, LATER, False)
    assert (result.level, "no time server sets it" in result.what) == ("warn", True)
    assert "timedatectl set-ntp true" in result.fix
