"""Say what keeps the platform from running here, and what to do about it.

    python -m ci.doctor                    the machine, the network, every image, the cluster, and what is installed
    python -m ci.doctor --no-cluster       the machine alone, before Kubernetes is installed
    python -m ci.doctor --before           what an install needs: neither images nor what is installed
    python -m ci.doctor --probe            also prove with pods of its own that network policies are enforced
    python -m ci.doctor --expected FILE    with Python's standard library alone (the bundle has FILE)

Ends with 0 if nothing fails (a warning is no failure), 1 if something does. Changes nothing, but for --probe, which
makes a namespace and removes it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from ci import kube
from ci.console import Failure, main, run
from ci.doctor import cluster, host, images, network
from ci.doctor.result import FAIL, SKIP, WARN, Expected, Result, fail, load, skip, warn
from ci.paths import state_dir, venv_bin

MARKS = {"ok": "ok  ", WARN: "WARN", FAIL: "FAIL", SKIP: "-   "}


def table(results: list[Result]) -> str:
    """As people read it: a line per check, and under it what to do."""
    width = max(len(one.check) for one in results)
    lines = []
    for one in results:
        lines.append(f"{MARKS[one.level]}  {one.check:<{width}}  {one.what}")
        if one.mend:
            lines.append(f"{'':<{width + 8}}-> {one.mend}")
    counts = {level: sum(one.level == level for one in results) for level in MARKS}
    lines.append(f"\n{counts['ok']} ok, {counts[WARN]} warnings, {counts[FAIL]} failed, {counts[SKIP]} not looked at")
    return "\n".join(lines)


def guarded(check: str, look: Callable[[], Result | list[Result]]) -> list[Result]:
    """What a check says; one that cannot look says so, and the others go on."""
    try:
        found = look()
    except (Failure, OSError, ValueError, LookupError) as wrong:
        return [warn(check, f"could not look: {wrong}", "run it as root on the node, with KUBECONFIG set")]
    return found if isinstance(found, list) else [found]


def before(expected: Expected, reachable: bool, data: Path, planned: tuple[str, str], timeout: float) -> list[Result]:
    """The machine, its network and the way to the outside; `planned` are the ranges of a cluster still to come."""

    def cidrs() -> Result:
        ranges = cluster.networks(kube.get) if reachable else planned
        return network.cidrs(*ranges, network.routes(), outside(expected), reachable)

    results: list[Result] = []
    for name, look in (
        ("cpu", lambda: host.cpu(expected)),
        ("architecture", host.architecture),
        ("memory", lambda: host.memory(expected)),
        ("disk", lambda: host.disk(expected, data, reachable and images.all_present(expected, present_images()))),
        ("cgroups", lambda: host.cgroups(running=reachable)),
        ("inotify", host.inotify),
        ("clock", lambda: host.clock(expected)),
        ("name servers", network.resolver),
        ("cidr", cidrs),
        ("data API rule", lambda: network.policy_opening(expected, outside(expected).get(DATA_API, ""))),
        ("data API", lambda: network.data_api(expected, timeout)),
    ):
        results += guarded(name, look)
    return results


DATA_API = "the data API"


def outside(expected: Expected) -> dict[str, str]:
    """Addresses outside of the cluster that pods must reach."""
    name = urlsplit(expected.data_api).hostname
    address = network.resolve(name) if name else ""
    return {DATA_API: address} if address else {}


def on_cluster(expected: Expected, probe: bool) -> list[Result]:
    """The cluster, as an install needs it."""
    results: list[Result] = []
    for name, look in (
        ("kubernetes", _kubernetes),
        ("helm", lambda: cluster.helm(_helm_version())),
        ("nodes", lambda: cluster.nodes(kube.get)),
        ("storage", lambda: cluster.storage(expected, kube.get)),
        ("secrets", lambda: cluster.secrets(expected, kube.get)),
    ):
        results += guarded(name, look)
    if probe:
        results += guarded("policies", lambda: _policies(expected))
    else:
        results.append(skip("policies", "whether network policies are enforced: --probe tries it with pods"))
    return results


def installed(expected: Expected, demanded: bool, timeout: float) -> list[Result]:
    """The images on the nodes, and the platform if it is there."""
    results = guarded("images", lambda: images.every(expected, present_images(), timeout))
    there = bool(kube.kube("-n", kube.PLATFORM, "get", "deployments", "-o", "name", check=False).strip())
    if not there:
        results += guarded("mlflow", lambda: cluster.mlflow(expected, ""))
        if demanded:
            results.append(
                fail("platform", "nothing is installed in the namespace mlops", "make install, or ./install.sh")
            )
        return results
    for name, look in (
        ("mlflow", lambda: cluster.mlflow(expected, _ask("mlflow", 5000, "/version").decode().strip())),
        ("applications", lambda: cluster.applications(kube.get)),
        ("pods", lambda: cluster.pods(kube.get)),
        ("alerts", lambda: cluster.alerts(json.loads(_ask("prometheus", 9090, "/api/v1/alerts"))["data"]["alerts"])),
    ):
        results += guarded(name, look)
    return results


def _kubernetes() -> Result:
    found = json.loads(kube.kube("version", "-o", "json"))
    return cluster.versions(found["serverVersion"]["gitVersion"], found["clientVersion"]["gitVersion"])


def _helm_version() -> str:
    own = Path(venv_bin("helm"))
    program = str(own) if own.exists() else shutil.which("helm")
    if not program:
        return ""
    return run([program, "version", "--template", "{{.Version}}"]).stdout.strip()


def _ask(service: str, port: int, path: str) -> bytes:
    with (
        kube.forward(kube.PLATFORM, f"service/{service}", port) as url,
        urllib.request.urlopen(f"{url}{path}", timeout=20) as answer,  # noqa: S310 - the tunnel just opened
    ):
        body: bytes = answer.read()
    return body


def _policies(expected: Expected) -> Result:
    image = next((one for one in expected.images if "/pipeline:" in one), "")
    if not image:
        return skip("policies", "no image named pipeline to probe with")
    return cluster.policies(cluster.Kube(kube.kube, kube.get), image)


def present_images() -> set[str]:
    """Names of the images on the nodes: from containerd where it is on this machine, else what the nodes report."""
    for command in (
        ["ctr", "--address", "/run/house-platform/containerd.sock"] if state_dir().exists() else [],
        ["k3s", "ctr"],
    ):
        if command and shutil.which(command[0]):
            words = [*command, "-n", "k8s.io", "images", "ls", "-q"]
            done = run(words, check=False, timeout=60)
            if not done.returncode:
                return set(done.stdout.split())
    return cluster.present_images(kube.get)


def expectations(file: str, env: str) -> Expected:
    """What the environment needs: from a file, or from the charts of this checkout (needs its .venv).

    Raises:
        Failure: neither is there.
    """
    if file:
        return load(Path(file))
    try:
        from ci.expected import of  # needs more than the standard library, which is all that the doctor needs
    except ImportError as missing:
        raise Failure(f"{missing}: run `make doctor`, or give --expected FILE") from missing
    return of(env)


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", default="kind", help="environment: values/<env>.yaml (default: %(default)s)")
    parser.add_argument(
        "--expected", default="", metavar="FILE", help="what the environment needs, by `python -m ci.expected`"
    )
    parser.add_argument("--no-cluster", action="store_true", help="look at the machine alone")
    parser.add_argument("--before", action="store_true", help="look at neither images nor what is installed")
    parser.add_argument("--installed", action="store_true", help="fail if the platform is not installed")
    parser.add_argument("--probe", action="store_true", help="prove with pods that network policies are enforced")
    parser.add_argument(
        "--pod-cidr", default=network.POD_CIDR, help="of the cluster to be installed (default: %(default)s)"
    )
    parser.add_argument("--service-cidr", default=network.SERVICE_CIDR, help="likewise (default: %(default)s)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=host.default_data_dir(),
        help="folder of the cluster's images and volumes (default: %(default)s)",
    )
    parser.add_argument("--timeout", type=float, default=10, help="seconds for each connection (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()

    expected = expectations(options.expected, options.env)
    why = ""
    if not options.no_cluster:
        try:
            kube.kube("get", "--raw", "/readyz", "--request-timeout=5s", timeout=15)
        except Failure as away:
            why = str(away).splitlines()[-1]
    reachable = not (options.no_cluster or why)
    planned = (options.pod_cidr, options.service_cidr)
    results = before(expected, reachable, options.data_dir, planned, options.timeout)
    if reachable:
        results += on_cluster(expected, options.probe)
        if not options.before:
            results += installed(expected, options.installed, options.timeout)
    elif why:
        mend = (
            "start it (make cluster, systemctl start k3s), set KUBECONFIG; or --no-cluster to look at the machine alone"
        )
        results.append(fail("kubernetes", f"no cluster answers: {why}", mend))
    well = not any(one.level == FAIL for one in results)
    if options.json:
        print(json.dumps({"ok": well, "env": expected.env, "results": [asdict(one) for one in results]}, indent=2))
    else:
        print(table(results), flush=True)
    return 0 if well else 1


if __name__ == "__main__":
    main(_main)
