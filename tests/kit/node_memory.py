"""Reads the memory of the processes on a node of the kind cluster."""

from __future__ import annotations

import re
from collections import defaultdict

from ci.cluster import docker

NO_POD = ""
# One line per process: the pod in the name of its control group, or -, and its anonymous memory in KiB.
READ = r"""
for p in /proc/[0-9]*; do
  group=$(grep -m1 -o 'pod[0-9a-f_-]\{36\}' $p/cgroup 2>/dev/null) || group=-
  echo "$group $(sed -n 's/^Pss_Anon: *\([0-9]*\) kB/\1/p' $p/smaps_rollup 2>/dev/null)"
done
"""


def anonymous_memory(node: str) -> dict[str, float]:
    """Anonymous memory in MiB by uid of the pod; `NO_POD` for processes outside pods, such as the kubelet.

    The kernel cannot reclaim anonymous memory. Pages of program files do not count.
    """
    return parse(docker.choose().run("exec", node, "sh", "-c", READ))


def parse(output: str) -> dict[str, float]:
    """Memory by pod from the output of `READ`. Lines of processes without memory, or that ended, have no number."""
    memory: dict[str, float] = defaultdict(float)
    for line in output.splitlines():
        if match := re.fullmatch(r"(?:pod(\S+)|-) (\d+)", line):
            memory[(match[1] or NO_POD).replace("_", "-")] += int(match[2]) / 1024
    return memory
