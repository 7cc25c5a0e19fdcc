"""Problems of the kind cluster for `make doctor`."""

from __future__ import annotations

import os
import shutil

from ci.cluster import docker
from ci.cluster.containers import control_plane_id, nodes, running_nodes
from ci.cluster.docker import Docker
from ci.cluster.image import outdated
from ci.cluster.record import CREATING, Record, read_record
from ci.cluster.registryless import engine
from ci.cluster.requirements import check_room, refuse_foreign
from ci.cluster.settings import NAME
from ci.common.console import Failure


def findings() -> list[tuple[str, str, str]]:
    """Reasons why `up` would fail here: level (ok, warn or fail), the problem, and the remedy."""
    results = []
    record = read_record()
    docker_engine = docker.of_cluster()
    if docker_engine.own and os.geteuid() != 0:
        problem = "docker is installed, but no engine answers" if shutil.which("docker") else "Docker is not installed"
        remedy = "sudo systemctl start docker (or install it), or run as root on Debian, or CLUSTER=current"
        return [("fail", problem, remedy)]
    if not shutil.which("kind") and not shutil.which("go"):
        results.append(("fail", "kind is not installed, and there is no Go to compile it with", "install kind or Go"))
    if docker_engine.own and not engine.answers():
        if record:
            return [*results, ("fail", "the cluster is stopped", "make cluster-start")]
        return [*results, ("ok", "no Docker engine answers: `make cluster` starts one from Debian's packages", "")]
    if record and record.container == CREATING:
        results.append(("warn", "the creation of the cluster was interrupted", "make cluster begins it again"))
    elif record:
        results += _findings_of_cluster(docker_engine, record)
    else:
        for check in (refuse_foreign, check_room):
            try:
                check(docker_engine)
            except Failure as failure:
                problem, _, remedy = str(failure).partition(": ")
                results.append(("fail", problem, remedy))
    return results or [("ok", "`make cluster` can create or start a cluster here", "")]


def _findings_of_cluster(docker_engine: Docker, record: Record) -> list[tuple[str, str, str]]:
    """Problems of the cluster that exists."""
    if control_plane_id(docker_engine) != record.container:
        problem = f"the kind cluster {NAME} is not the one that `make cluster` created"
        return [("fail", problem, f"kind delete cluster --name {NAME}; make cluster-down; make cluster")]
    running, every = len(running_nodes(docker_engine)), len(nodes(docker_engine))
    if running < every:
        return [("fail", f"{running} of {every} nodes run", "make cluster-start")]
    return [("warn", text, "make cluster-down cluster, which removes its data") for text in outdated(record)]
