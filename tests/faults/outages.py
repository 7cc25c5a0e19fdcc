"""Takes workloads of the platform away for a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ci.common.kube import PLATFORM, get, kube
from ci.deploy.workloads import wait_ready


@contextmanager
def away(*workloads: str) -> Iterator[None]:
    """Scale workloads such as `statefulset/minio` to 0 for the block. Afterwards the whole platform is Ready again."""
    replicas = {workload: get("-n", PLATFORM, workload)["spec"]["replicas"] for workload in workloads}
    for workload in workloads:
        kube("-n", PLATFORM, "scale", workload, "--replicas=0")
    try:
        for workload in workloads:
            label = f"app.kubernetes.io/name={workload.partition('/')[2]}"
            kube("-n", PLATFORM, "wait", "--for=delete", "pod", "-l", label, "--timeout=120s", timeout=150)
        yield
    finally:
        for workload, count in replicas.items():
            kube("-n", PLATFORM, "scale", workload, f"--replicas={count}")
        wait_ready()
