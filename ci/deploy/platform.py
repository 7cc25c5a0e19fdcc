"""Install the umbrella chart on the current cluster, wait until every component is Ready, or remove it.

python -m ci.deploy.platform install     install or upgrade, and restore objects that are missing or differ
python -m ci.deploy.platform status      every pod, and the reason if it is not Ready
python -m ci.deploy.platform pages       addresses of all pages and how to reach them
python -m ci.deploy.platform remove      the release, its volumes, its Secrets and its namespaces; CONFIRM=<context> if
                                         `make cluster` did not create the cluster
"""

from __future__ import annotations

import argparse
import json
import re
import time
from typing import TypedDict

import yaml

from ci import cluster
from ci.cluster.confirm import confirm_removal
from ci.common.console import Failure, main, phase, say, wait_for
from ci.common.environments import known_env, names_nodes
from ci.common.kube import (
    JOBS,
    PART_OF,
    PLATFORM,
    RELEASE,
    Object,
    api_endpoint,
    egress_values,
    get,
    kube,
    kubeconfig,
    node_addresses,
    on_cluster,
    trouble,
)
from ci.common.kube import helm as helm_program
from ci.common.paths import CHECKOUT
from ci.deploy import cluster_rights, drift, jobs, notifications, secrets
from ci.deploy.charts import dependencies

CHART = CHECKOUT / "charts" / "platform"
PAGES = {
    "predictions (HTTP)": ("fastapi", 8000, "/docs"),
    "prices and history": ("streamlit", 8501, ""),
    "pipeline (Airflow)": ("airflow-api", 8080, ""),
    "models (MLflow)": ("mlflow", 5000, ""),
    "data (MinIO)": ("minio", 9001, ""),
    "metrics (Prometheus)": ("prometheus", 9090, ""),
    "alerts (Alertmanager)": ("alertmanager", 9093, ""),
    "dashboards (Grafana)": ("grafana", 3000, ""),
}
NO_RECEIVER = (
    "they only show on Alertmanager's page. Enable one of monitoring.alertmanager.receivers: "
    "docs/how-to/receive-alerts.md"
)
NOT_INSTALLED = f"nothing is installed in the namespace {PLATFORM}: `make install`, or `make gitops`"


class HelmRelease(TypedDict):
    """A release as `helm list` returns it."""

    name: str
    namespace: str
    revision: str
    updated: str
    status: str  # deployed, failed, pending-upgrade, ...
    chart: str  # name and version
    app_version: str


def helm(*words: str, check: bool = True, timeout: float = 300) -> str:
    """Run helm on the current cluster and return its output."""
    return on_cluster(helm_program(), *words, check=check, timeout=timeout)


def value_arguments(env: str, extra: list[str]) -> list[str]:
    """`-f` and `--set` arguments of an environment, including values that are read from the cluster."""
    images = CHECKOUT / "values" / f"images-{env}.yaml"
    if not images.exists():
        raise Failure(
            f"values/{images.name} is missing: `make images ENV={env}` builds images here and writes it, "
            f"`make release ENV={env}` writes it for published images"
        )
    files = [CHECKOUT / "values" / f"{env}.yaml", images]
    arguments = [word for file in files for word in ("-f", str(file))]
    arguments += [word for path, value in egress(env).items() for word in ("--set", f"{path}={value}")]
    return arguments + [word for setting in extra for word in (_flag(setting), setting)]


def egress(env: str) -> dict[str, str]:
    """Addresses of API servers and nodes for egress rules, as values for `--set`.

    Nodes of kind get new addresses when they restart, so for kind it is the network of all nodes.
    """
    network = cluster.node_network()
    if not network:
        return egress_values(nodes=not names_nodes(env, CHECKOUT))
    _, port = api_endpoint()
    return {"global.kubeApi.cidr": network, "global.kubeApi.port": str(port)}


def _flag(setting: str) -> str:
    """`--set`; for a decimal number `--set-json`, because `--set` makes it a string, which the schemas refuse."""
    return "--set-json" if re.fullmatch(r"[^=]+=-?\d+\.\d+", setting) else "--set"


def release() -> HelmRelease | None:
    """Helm's release of the platform as `helm list` returns it; None if there is none."""
    releases: list[HelmRelease] = json.loads(helm("list", "-n", PLATFORM, "-a", "-f", f"^{RELEASE}$", "-o", "json"))
    return releases[0] if releases else None


def rendered(env: str, extra: list[str]) -> str:
    """The manifest of the umbrella chart, as a release records it: without tests."""
    dependencies()
    words = ["--skip-tests", *value_arguments(env, extra)]
    return helm("template", RELEASE, str(CHART), "-n", PLATFORM, *words)


def changes(manifest: str) -> list[str]:
    """Names of the objects that differ between a manifest and Helm's record. Example: `Deployment/fastapi`."""
    wanted = _objects(manifest)
    recorded = _objects(helm("get", "manifest", RELEASE, "-n", PLATFORM, check=False))
    return sorted(name for name in wanted.keys() | recorded.keys() if wanted.get(name) != recorded.get(name))


def install(env: str = "kind", extra: list[str] | None = None, take_ownership: bool = False) -> bool:
    """Install or upgrade the release, and restore objects that are missing or differ; returns False if nothing changed.

    With `take_ownership`, the release takes over existing objects that belong to no release.

    Raises:
        Failure: Argo CD delivers the platform, and would revert any difference; or an object still differs afterwards.
    """
    if not take_ownership and delivered_by_argocd():
        raise Failure("Argo CD delivers this platform: commit and `make gitops-push`, or `make gitops-to-helm` first")
    made = secrets.create()
    if made:
        say(f"created or completed {len(made)} Secrets")
    present = release()
    manifest = rendered(env, extra or [])
    if not notifications.notifies([*_objects(manifest).values()]):
        say(f"WARNING: nobody is notified of alerts in {env}: {NO_RECEIVER}")
    drifted = False
    for job in jobs.outlived() if present else []:
        say(f"{job}; running it again")
        jobs.delete(job)
    if present and present["status"] == "deployed" and not changes(manifest):
        differing = drift.differences(drift.read(manifest))
        if not differing:
            return False
        drifted = True
        for one in differing:
            say(f"{one}; restoring it")
    if present and present["status"].startswith("pending"):
        say("an earlier install was interrupted; continuing it")
        helm("rollback", RELEASE, "-n", PLATFORM, check=False)
    orphans = [] if present else _orphans()
    if orphans and not take_ownership:
        say(f"taking over {', '.join(orphans)}, which stayed with its data when the Applications were removed")
    words = ["--take-ownership"] if take_ownership or orphans else []
    # Helm compares each object with the cluster, not only with its record: it creates what is missing, and sets what
    # differs.
    helm("upgrade", "--install", RELEASE, str(CHART), "-n", PLATFORM, *words, *value_arguments(env, extra or []))
    if drifted and (left := drift.differences(drift.read(manifest))):
        raise Failure(
            f"helm restored the release, but {'; '.join(map(str, left))}: another program in the cluster changes it. "
            "`kubectl get <kind> <name> -o yaml --show-managed-fields` names it"
        )
    return True


def _orphans() -> list[str]:
    """Names of workloads of the platform without a release of Helm."""
    workloads = get("-n", PLATFORM, "statefulsets,deployments", "-l", PART_OF)["items"]
    return sorted(item["metadata"]["name"] for item in workloads
                  if "meta.helm.sh/release-name" not in item["metadata"].get("annotations", {}))  # fmt: skip


def delivered_by_argocd() -> bool:
    """Whether Argo CD's Applications deliver the platform."""
    return bool(kube("get", "applications.argoproj.io", "-A", "-l", PART_OF, "-o", "name", check=False))


def _objects(manifest: str) -> dict[str, Object]:
    """Objects by kind, namespace and name."""
    objects = [thing for thing in yaml.load_all(manifest, Loader=yaml.CSafeLoader) if thing]
    spaces = [f"{item['metadata']['namespace']}/" if "namespace" in item["metadata"] else "" for item in objects]
    return {f"{item['kind']}/{space.removeprefix(f'{PLATFORM}/')}{item['metadata']['name']}": item
            for item, space in zip(objects, spaces, strict=True)}  # fmt: skip


def pods(namespace: str = PLATFORM) -> list[Object]:
    """The pods of a namespace."""
    items: list[Object] = get("-n", namespace, "pods")["items"]
    return items


def _events(namespace: str) -> str:
    rows = get("-n", namespace, "events", "--field-selector", "type=Warning")["items"]
    rows.sort(key=lambda row: row.get("lastTimestamp") or row.get("eventTime") or "")
    return "\n".join(f"  {row['involvedObject']['name']}: {row['reason']}: {row['message'][:300]}" for row in rows[-8:])


def late_workloads(namespace: str = PLATFORM) -> list[str]:
    """Names of workloads that do not have all their replicas ready yet, without the Jobs of CronJobs."""
    late = []
    for item in get("-n", namespace, "deployments,statefulsets,jobs")["items"]:
        status, name = item.get("status", {}), f"{item['kind'].lower()}/{item['metadata']['name']}"
        if item["kind"] == "Job":
            owners = item["metadata"].get("ownerReferences", [])
            if any(owner["kind"] == "CronJob" for owner in owners):
                continue  # runs now and then, and may fail: it is not a part of the installation
            if not status.get("succeeded"):
                late.append(name)
            continue
        wanted = item["spec"].get("replicas", 1)
        seen = status.get("observedGeneration", 0) >= item["metadata"]["generation"]
        new_and_ready = min(status.get("readyReplicas", 0), status.get("updatedReplicas", 0)) >= wanted
        old_gone = status.get("replicas", 0) <= wanted
        if not (seen and new_and_ready and old_gone):
            late.append(name)
    return late


# Reasons that do not go away by waiting: a missing image or Secret, or a value that prevents the container's start.
HOPELESS = ("ImagePull", "ErrImage", "InvalidImageName", "CreateContainerConfigError")
PATIENCE = 45.0  # seconds before such a reason counts: a Secret or an image may still arrive


def wait_ready(seconds: float = 420, namespace: str = PLATFORM) -> None:
    """Wait for every workload but the predictor, which is Ready once the first model is promoted.

    Raises:
        Failure: a pod is not Ready. The text has each such pod with its reason, and the last warnings.
    """
    reported: set[str] = set()
    since: dict[str, float] = {}  # time when a pod first had such a reason

    def ready() -> bool:
        late = set(late_workloads(namespace)) - {"deployment/fastapi"}
        if late != reported:
            say(f"waiting for {', '.join(sorted(late))}" if late else "all workloads are Ready")
            reported.clear()
            reported.update(late)
        stuck = {pod["metadata"]["name"] for pod in pods(namespace) if any(word in trouble(pod) for word in HOPELESS)}
        now = time.monotonic()
        since.update({name: since.get(name, now) for name in stuck})
        lost = sorted(name for name in stuck if now - since[name] > PATIENCE)
        if late and lost:
            raise Failure(f"waiting does not help {', '.join(lost)}")
        return not late

    try:
        wait_for("the platform", ready, seconds, every=2)
    except Failure as slow:
        reasons = "\n".join(f"  {pod['metadata']['name']}: {why}" for pod in pods(namespace) if (why := trouble(pod)))
        raise Failure(f"{slow}\nnot Ready:\n{reasons}\nlast warnings:\n{_events(namespace)}") from slow


def status() -> int:
    """Print every pod of the platform; returns the number of pods that are not Ready.

    Raises:
        Failure: the platform is not installed.
    """
    every = [*pods(PLATFORM), *pods(JOBS)]
    if not every:
        raise Failure(NOT_INSTALLED)
    bad = 0
    for pod in every:
        why, name = trouble(pod), pod["metadata"]
        bad += bool(why)
        restarts = sum(box["restartCount"] for box in pod["status"].get("containerStatuses", []))
        say(f"{name['namespace']:<11} {name['name']:<42} {why or 'Ready'} (restarts: {restarts})")
    return bad


def pages() -> None:
    """Print the address of each page: direct if this machine routes to Services, and by a tunnel.

    Raises:
        Failure: the platform is not installed.
    """
    services = {
        item["metadata"]["name"]: item["spec"]["clusterIP"] for item in get("-n", PLATFORM, "services")["items"]
    }
    if not services:
        raise Failure(NOT_INSTALLED)
    direct = (
        len(node_addresses()) < 2
    )  # with several nodes, NetworkPolicies deny access from a node to pods of other nodes
    say("pages (direct from the cluster's machine, or by tunnel from anywhere):" if direct else "pages, by tunnel:")
    for page, (service, port, path) in PAGES.items():
        if service in services:
            address = f"http://{services[service]}:{port}{path}"
            if services[service] == "None":
                address = "(headless)"
            shown = f"{address:<34} " if direct else ""
            print(f"  {page:<22} {shown}kubectl -n {PLATFORM} port-forward svc/{service} {port}")
    if "grafana" not in services:
        print("  no dashboards page: Grafana is disabled, because its image needs a container registry")
    if kubeconfig():
        print("  kubectl and its kubeconfig: `eval $(.venv/bin/python -m ci.cluster env)`")
    print("  logins: `kubectl -n mlops get secret airflow-login minio grafana -o yaml` (base64)", flush=True)


REMOVED = f"the platform with its namespaces {PLATFORM} and {JOBS}, and all its data"


def remove() -> None:
    """Remove the release and all its objects, including volumes and Secrets.

    Raises:
        Failure: `make cluster` did not create this cluster, and CONFIRM does not name its context.
    """
    confirm_removal(REMOVED)
    with phase("remove the release", then="remove its namespaces with volumes and Secrets"):
        helm("uninstall", RELEASE, "-n", PLATFORM, "--ignore-not-found", "--wait", "--timeout", "120s")
    with phase("remove the namespaces"):
        kube("delete", "namespace", PLATFORM, JOBS, "--ignore-not-found", "--timeout=180s", timeout=200)
    cluster_rights.revoke(PLATFORM)


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.deploy.platform", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["install", "status", "pages", "remove"])
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment: values/<env>.yaml (default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="override a value, like helm --set"
    )
    options = parser.parse_args()
    if options.action == "install":
        with phase("install charts/platform", then="wait for every component"):
            changed = install(options.env, options.set)
            say("installed" if changed else "nothing changed")
        with phase("wait for every component"):
            wait_ready()
    elif options.action == "status":
        return 1 if status() else 0
    elif options.action == "pages":
        pages()
    else:
        remove()
    return 0


if __name__ == "__main__":
    main(_main)
