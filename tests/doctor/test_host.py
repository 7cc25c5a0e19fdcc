"""A machine with one fault each; the sentence says what is wrong, the other what mends it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.doctor import host
from ci.doctor.result import Expected

GIB = 2**30
NEEDS = Expected("vm", made=1_790_000_000, cpu=1.5, memory=2 * GIB, volumes=30 * GIB)
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
    found = [host.cpu(NEEDS, root), host.memory(NEEDS, root), host.cgroups(root), host.inotify(root),
             host.architecture("x86_64"), host.clock(NEEDS, LATER, True),
             host.disk(NEEDS, root, usage=(100 * GIB, 20 * GIB, 80 * GIB))]  # fmt: skip
    assert [one for one in found if one.level != "ok"] == []


def test_one_processor(root: Path) -> None:
    (root / "proc/cpuinfo").write_text("processor : 0\n")
    found = host.cpu(NEEDS, root)
    assert (found.level, found.mend) == ("fail", "give the machine 2 processors")
    assert found.what == "1 processor(s), but the pods of vm ask for 1.5 and two are the least"


def test_fewer_processors_than_the_pods_ask_for(root: Path) -> None:
    assert host.cpu(Expected("vm", cpu=3.2), root).mend == "give the machine 4 processors"


def test_other_architecture() -> None:
    found = host.architecture("aarch64")
    assert found.level == "fail"
    assert "`exec format error`" in found.what


def test_too_little_memory_for_the_requests(root: Path) -> None:
    (root / "proc/meminfo").write_text(f"MemTotal: {3 * GIB // 1024} kB\n")
    found = host.memory(NEEDS, root)
    assert found.level == "fail"
    assert "3.0 GiB, but pods (2.0) and Kubernetes need 3.2 GiB" in found.what
    assert "give the machine 4 GiB" in found.mend


def test_memory_that_is_enough_to_start_only(root: Path) -> None:
    (root / "proc/meminfo").write_text(f"MemTotal: {4 * GIB // 1024} kB\n")
    assert (host.memory(NEEDS, root).level, "OOMKilled" in host.memory(NEEDS, root).what) == ("warn", True)


@pytest.mark.parametrize(
    ("usage", "present", "level"),
    [
        ((100 * GIB, 90 * GIB, 10 * GIB), False, "fail"),  # no room for the images
        ((400 * GIB, 350 * GIB, 50 * GIB), True, "fail"),  # room, but the kubelet evicts already
        ((120 * GIB, 80 * GIB, 40 * GIB), False, "warn"),  # the volumes will not fit
        ((60 * GIB, 25 * GIB, 35 * GIB), True, "ok"),  # the images are there
    ],
)
def test_disk(tmp_path: Path, usage: tuple[int, int, int], present: bool, level: str) -> None:
    found = host.disk(NEEDS, tmp_path / "not" / "made" / "yet", present, usage)
    assert found.level == level
    assert str(tmp_path) in found.what
    assert bool(found.mend) == (level != "ok")


def test_cgroup_v1(root: Path) -> None:
    (root / "sys/fs/cgroup/cgroup.controllers").unlink()
    found = host.cgroups(root)
    assert (found.level, found.what) == (
        "fail", "cgroup v1: kubelets from 1.35 on refuse to start on it (failCgroupV1)",
    )  # fmt: skip
    assert "systemd.unified_cgroup_hierarchy=1" in found.mend
    assert host.cgroups(root, running=True).level == "warn"


def test_cgroup_v2_without_memory(root: Path) -> None:
    (root / "sys/fs/cgroup/cgroup.controllers").write_text("cpuset cpu io pids\n")
    found = host.cgroups(root)
    assert (found.level, "without the controller(s) memory" in found.what) == ("fail", True)
    assert "cgroup_enable=memory" in found.mend


def test_low_inotify_limits(root: Path) -> None:
    (root / "proc/sys/fs/inotify/max_user_instances").write_text("128\n")
    found = host.inotify(root)
    assert (found.level, found.what) == (
        "warn", "max_user_instances is 128: pods may end with `too many open files`",
    )  # fmt: skip
    assert found.mend.startswith("sysctl -w fs.inotify.max_user_instances=512,")


def test_clock_before_the_release() -> None:
    found = host.clock(NEEDS, NEEDS.made - 86400, True)
    assert (found.level, "`not yet valid`" in found.what) == ("fail", True)


def test_clock_that_nobody_sets() -> None:
    found = host.clock(NEEDS, LATER, False)
    assert (found.level, "no time server sets it" in found.what) == ("warn", True)
    assert "timedatectl set-ntp true" in found.mend
