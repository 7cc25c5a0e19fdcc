"""The actions of `python -m ci.argocd`."""

from __future__ import annotations

from ci.argocd import apply, build, handover, manifests, served, sync
from ci.argocd.apply import GIT_URL, NAMESPACE
from ci.cluster.choice import choose
from ci.cluster.confirm import confirm_removal
from ci.common.console import Failure, phase, run, say
from ci.common.kube import RELEASE, as_list, kube
from ci.common.manifest import parse
from ci.deploy import helm_release, runs, secrets, workloads
from ci.deploy.chart_values import egress


def is_local() -> bool:
    """Whether this repository created the cluster, with its own images and Git server."""
    return choose().name != "current"


def install() -> None:
    """Install Argo CD, and the Git server on a local cluster; wait until they are Ready."""
    image = build.load() if is_local() else ""
    apply.install(manifests.everything(parse(build.official_manifests().read_text()), image))


def deliver(env: str, extra: dict[str, str] | None = None) -> None:
    """Create namespaces, Secrets, AppProjects and the root Application."""
    made = secrets.create()
    if made:
        say(f"made {len(made)} Secrets")
    parameters = egress(env) | (extra or {})
    apply.apply(manifests.delivery(env, GIT_URL if is_local() else "", parameters))


def push(env: str) -> str:
    """Serve the checkout on a local cluster; returns the revision to sync."""
    if is_local():
        with phase("push the checkout to the cluster's Git server"):
            revision = served.push(env)
            say(f"the branch {served.BRANCH} is at {revision[:7]}")
            return revision
    return wanted()


def wanted() -> str:
    """Commit of the root's branch."""
    if is_local():
        with served.server() as url:
            heads = run(["git", "ls-remote", url, f"refs/heads/{served.BRANCH}"]).stdout
    else:
        source = sync.applications()[sync.ROOT]["spec"]["source"]
        heads = run(["git", "ls-remote", source["repoURL"], f"refs/heads/{source['targetRevision']}"]).stdout
    if not heads:
        raise Failure("the repository does not have the branch: push it first")
    return heads.partition("\t")[0]


def first_run() -> None:
    """Start a pipeline run if the predictor waits for its first model."""
    if "deployment/fastapi" in workloads.late_workloads():
        with phase("first pipeline run"), runs.airflow() as client:
            runs.run_once(client)


def announce_takeover(env: str, settings: list[str]) -> None:
    """Print that Argo CD takes over a platform that Helm installed."""
    if helm_release.release():
        differing = helm_release.changes(helm_release.rendered(env, settings))
        effect = f"changes {', '.join(differing)}" if differing else "changes no object"
        say(f"Argo CD takes over Helm's release {RELEASE} and {effect}")


def up(env: str, seconds: float, train: bool, settings: list[str]) -> None:
    """Install everything on a cluster that has the images, and wait until it is synced."""
    install()
    revision = push(env) if is_local() else ""
    announce_takeover(env, settings)
    with phase("apply AppProjects and root Application", then="wait for all Applications"):
        deliver(env, dict(manifests.split_setting(setting) for setting in settings))
    revision = revision or wanted()
    sync.refresh()
    if train:
        with phase("wait for all but the predictor, which waits for the first model", then="first pipeline run"):
            sync.wait(revision, seconds, but=("fastapi",))
        first_run()
    with phase("wait for all Applications"):
        sync.wait(revision, seconds)
    if helm_release.release():
        with phase("remove the record of Helm's release"):
            say(f"{handover.to_argocd()} objects changed hands")
    print(sync.table(), flush=True)


def remove() -> None:
    """Remove Applications with their objects, then Argo CD.

    Raises:
        Failure: `make cluster` did not create this cluster, and CONFIRM does not name its context.
    """
    confirm_removal(f"the Applications with their objects, and Argo CD with its namespace {NAMESPACE}")
    with phase("delete the Applications", then="Argo CD"):
        sync.delete_all()
    with phase("delete Argo CD"):
        official = manifests.install(parse(build.official_manifests().read_text()))
        wide = [item for item in official if "namespace" not in item["metadata"]]
        kube("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s", timeout=200)
        kube("delete", "--ignore-not-found", "-f", "-", stdin=as_list(wide), timeout=200)
    say("postgres and minio stay with their data: `make gitops` or `make install` uses them again")
