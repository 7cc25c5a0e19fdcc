"""Install the umbrella chart on the current cluster, wait until every component is Ready, or remove it.

python -m ci.deploy.platform install     install or upgrade, and restore objects that are missing or differ
python -m ci.deploy.platform status      every pod, and the reason if it is not Ready
python -m ci.deploy.platform pages       addresses of all pages and how to reach them
python -m ci.deploy.platform remove      the release, its volumes, its Secrets and its namespaces; CONFIRM=<context> if
                                         `make cluster` did not create the cluster
"""

from __future__ import annotations

import argparse

from ci.cluster.confirm import confirm_removal
from ci.common.console import Failure, main, phase, say
from ci.common.environments import known_env
from ci.common.kube import JOBS, PART_OF, PLATFORM, RELEASE, get, kube
from ci.deploy import chart_values, cluster_rights, drift, helm_release, jobs, notifications, pages, secrets, workloads

NO_RECEIVER = (
    "they only show on Alertmanager's page. Enable one of monitoring.alertmanager.receivers: "
    "docs/how-to/receive-alerts.md"
)


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
    present = helm_release.release()
    manifest = helm_release.rendered(env, extra or [])
    if not notifications.notifies([*helm_release.objects(manifest).values()]):
        say(f"WARNING: nobody is notified of alerts in {env}: {NO_RECEIVER}")
    drifted = False
    for job in jobs.outlived() if present else []:
        say(f"{job}; running it again")
        jobs.delete(job)
    if present and present["status"] == "deployed" and not helm_release.changes(manifest):
        differing = drift.differences(drift.read(manifest))
        if not differing:
            return False
        drifted = True
        for one in differing:
            say(f"{one}; restoring it")
    if present and present["status"].startswith("pending"):
        say("an earlier install was interrupted; continuing it")
        helm_release.helm("rollback", RELEASE, "-n", PLATFORM, check=False)
    orphans = [] if present else _orphans()
    if orphans and not take_ownership:
        say(f"taking over {', '.join(orphans)}, which stayed with its data when the Applications were removed")
    words = ["--take-ownership"] if take_ownership or orphans else []
    # Helm compares each object with the cluster, not only with its record: it creates what is missing, and sets what
    # differs.
    arguments = [*words, *chart_values.value_arguments(env, extra or [])]
    helm_release.helm("upgrade", "--install", RELEASE, str(helm_release.CHART), "-n", PLATFORM, *arguments)
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


REMOVED = f"the platform with its namespaces {PLATFORM} and {JOBS}, and all its data"


def remove() -> None:
    """Remove the release and all its objects, including volumes and Secrets.

    Raises:
        Failure: `make cluster` did not create this cluster, and CONFIRM does not name its context.
    """
    confirm_removal(REMOVED)
    with phase("remove the release", then="remove its namespaces with volumes and Secrets"):
        helm_release.helm("uninstall", RELEASE, "-n", PLATFORM, "--ignore-not-found", "--wait", "--timeout", "120s")
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
            workloads.wait_ready()
    elif options.action == "status":
        return 1 if workloads.status() else 0
    elif options.action == "pages":
        pages.show()
    else:
        remove()
    return 0


if __name__ == "__main__":
    main(_main)
