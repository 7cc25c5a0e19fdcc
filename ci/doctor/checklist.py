"""The checks in their order: the machine, then the cluster, then the installed platform."""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from ci.common import kube
from ci.common.console import Failure, run
from ci.deploy import drift, jobs
from ci.doctor import cluster, health, host, images, network, objects, policies, secrets, versions
from ci.doctor.requirements import Requirements
from ci.doctor.result import Result, fail, skip, warn


def guarded(check: str, look: Callable[[], Result | list[Result]]) -> list[Result]:
    """Results of a check. If it raises an error, the result is a warning, and the other checks continue."""
    try:
        results = look()
    except (Failure, OSError, ValueError, LookupError) as wrong:
        return [warn(check, f"the check itself failed: {wrong}", "run it as root on the node, with KUBECONFIG set")]
    return results if isinstance(results, list) else [results]


def before(needs: Requirements, reachable: bool, data: Path, planned: tuple[str, str], timeout: float) -> list[Result]:
    """Check the machine and its network. `planned`: the pod and service CIDRs of a future cluster."""

    def cidrs() -> Result:
        ranges = cluster.networks(kube.get) if reachable else planned
        return network.cidrs(*ranges, network.routes(), outside(needs), reachable)

    def disk() -> Result:
        if not reachable:
            return host.disk(needs, data)
        present = images.all_present(needs, present_images())
        evicts = cluster.evicts_on_full_disk(kube.get, lambda path: kube.kube("get", "--raw", path))
        return host.disk(needs, data, present, evicts)

    results: list[Result] = []
    for name, look in (
        ("cpu", lambda: host.cpu(needs)),
        ("architecture", host.architecture),
        ("memory", lambda: host.memory(needs)),
        ("disk", disk),
        ("cgroups", lambda: host.cgroups(running=reachable)),
        ("inotify", host.inotify),
        ("clock", lambda: host.clock(needs)),
        ("name servers", network.resolver),
        ("cidr", cidrs),
        ("data API rule", lambda: network.policy_opening(needs, outside(needs).get(DATA_API, ""))),
        ("data API", lambda: network.data_api(needs, timeout)),
    ):
        results += guarded(name, look)
    return results


DATA_API = "the data API"


def outside(needs: Requirements) -> dict[str, str]:
    """Addresses outside the cluster that pods must reach."""
    name = urlsplit(needs.data_api).hostname
    address = network.resolve(name) if name else ""
    return {DATA_API: address} if address else {}


def on_cluster(needs: Requirements, probe: bool, before: bool = False) -> list[Result]:
    """Check the cluster before an install."""
    results: list[Result] = []
    for name, look in (
        ("kubernetes", _kubernetes),
        ("helm", lambda: versions.helm(_helm_version())),
        ("nodes", lambda: cluster.nodes(kube.get)),
        ("storage", lambda: cluster.storage(needs, kube.get)),
        ("secrets", lambda: secrets.existing(needs, kube.get, before)),
        ("receivers", lambda: secrets.receivers(needs, kube.get)),
    ):
        results += guarded(name, look)
    if probe:
        results += guarded("policies", lambda: _policies(needs))
    else:
        results.append(skip("policies", "enforcement of network policies is not checked: --probe tests it with pods"))
    return results


def installed(needs: Requirements, demanded: bool, timeout: float) -> list[Result]:
    """Check the images on the nodes, and the platform if it is installed."""
    results = guarded("images", lambda: images.every(needs, present_images(), timeout))
    there = bool(kube.kube("-n", kube.PLATFORM, "get", "deployments", "-o", "name", check=False).strip())
    if not there:
        results += guarded("mlflow", lambda: versions.mlflow(needs, ""))
        if demanded:
            results.append(
                fail("platform", "nothing is installed in the namespace mlops", "make install, or ./install.sh")
            )
        return results
    for name, look in (
        ("mlflow", lambda: versions.mlflow(needs, _ask("mlflow", 5000, "/version").decode().strip())),
        ("applications", lambda: health.applications(kube.get)),
        ("objects", _objects),
        ("jobs", lambda: objects.jobs(jobs.outlived())),
        ("pods", lambda: health.pods(kube.get)),
        ("alerts", lambda: health.alerts(json.loads(_ask("prometheus", 9090, "/api/v1/alerts"))["data"]["alerts"])),
    ):
        results += guarded(name, look)
    return results


def _objects() -> Result:
    text = kube.kube("get", "applications.argoproj.io", "-A", "-l", kube.PART_OF, "-o", "json", check=False)
    if applications := json.loads(text)["items"] if text else []:
        return objects.by_argocd(applications)
    wanted = drift.read(drift.installed_manifest())
    return objects.by_helm(drift.differences(wanted), len(wanted))


def _kubernetes() -> Result:
    version = json.loads(kube.kube("version", "-o", "json"))
    return versions.kubernetes(version["serverVersion"]["gitVersion"], version["clientVersion"]["gitVersion"])


def _helm_version() -> str:
    try:
        program = kube.helm()
    except Failure:
        return ""
    return run([program, "version", "--template", "{{.Version}}"]).stdout.strip()


def _ask(service: str, port: int, path: str) -> bytes:
    with (
        kube.forward(kube.PLATFORM, f"service/{service}", port) as url,
        urllib.request.urlopen(f"{url}{path}", timeout=20) as answer,  # noqa: S310 - URL of the tunnel
    ):
        body: bytes = answer.read()
    return body


def _policies(needs: Requirements) -> Result:
    image = next((one for one in needs.images if "/pipeline:" in one), "")
    if not image:
        return skip("policies", "no image named pipeline to probe with")
    return policies.probe(policies.Kube(kube.kube, kube.get), image)


def present_images() -> set[str]:
    """Names of the images on every node: from containerd if it answers, else from the status of the nodes."""
    nodes = [["docker", "exec", name, "ctr"] for name in cluster.kind_nodes(kube.get)]
    lists = []
    for command in nodes or [["k3s", "ctr"]]:
        if not shutil.which(command[0]):
            break
        done = run([*command, "-n", "k8s.io", "images", "ls", "-q"], env=_docker_environment(), check=False, timeout=60)
        if done.returncode:
            break
        lists.append(set(done.stdout.split()))
    else:
        return set.intersection(*lists)
    return cluster.present_images(kube.get)


def _docker_environment() -> dict[str, str]:
    """Environment for docker. The engine that `make cluster` starts from Debian's packages has its own socket."""
    own = Path("/run/house-platform/docker.sock")
    return {**os.environ, "DOCKER_HOST": f"unix://{own}"} if own.exists() else dict(os.environ)


def own_cluster() -> list[Result]:
    """Problems with the kind cluster of `make cluster`; none with CLUSTER=current."""
    if os.environ.get("CLUSTER") == "current":
        return []
    try:
        from ci.cluster.findings import findings  # a bundle lacks ci.cluster: it installs on an existing cluster
    except ImportError:
        return []
    return [Result("kind", *finding) for finding in findings()]
