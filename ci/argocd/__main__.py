"""Deliver the platform with Argo CD. A local cluster gets a Git server of its own, filled from this checkout.

  up        all of it: images, Argo CD, Git server, root Application, first pipeline run; ends when all is as Git says
  build     compile Argo CD and make its image, if the cache lacks them
  install   Argo CD alone, on the present cluster
  push      serve the checkout's HEAD, and wait until the cluster is as it says
  wait      wait until the cluster is as the last push, or the root's branch, says
  status    every Application                     watch     report drift and self-heals for --seconds
  to-helm   delete the Applications and make their objects a release of Helm; no pod is touched
  remove    Applications and Argo CD; the platform's data stays until `make remove`

A platform that Helm installed is taken over by `up`; no pod is replaced unless its values differ.

On somebody else's cluster (CLUSTER=current) Argo CD's official images and the repository in argocd/ are used.
"""

from __future__ import annotations

import argparse
import json

from ci import platform, runs, secrets
from ci.argocd import apply, build, handover, manifests, served, sync
from ci.argocd.apply import GIT_URL, NAMESPACE
from ci.cluster.kinds import choose
from ci.console import Failure, main, phase, run, say, stream
from ci.environments import known_env
from ci.kube import RELEASE, api_endpoint, kube


def is_local() -> bool:
    """True if the cluster is one that this repository made, with images and a Git server of its own."""
    return choose().name != "current"


def install() -> None:
    """Argo CD with its settings, and the Git server on a local cluster; waits until they are Ready."""
    image = build.load() if is_local() else ""
    apply.install(manifests.everything(manifests.load(build.official_manifests().read_text()), image))


def deliver(env: str, extra: dict[str, str] | None = None) -> None:
    """Namespaces and Secrets, AppProjects, root Application."""
    made = secrets.create()
    if made:
        say(f"made {len(made)} Secrets")
    address, port = api_endpoint()
    known = {"global.kubeApi.cidr": f"{address}/32", "global.kubeApi.port": str(port)} | (extra or {})
    apply.apply(manifests.delivery(env, GIT_URL if is_local() else "", known))


def push(env: str) -> str:
    """Serve the checkout on a local cluster; returns the revision that the cluster is to reach."""
    if is_local():
        with phase("push the checkout to the cluster's Git server"):
            revision = served.push(env)
            say(f"the branch {served.BRANCH} is at {revision[:7]}")
            return revision
    return wanted()


def wanted() -> str:
    """The commit that the root's branch is at."""
    if is_local():
        with served.server() as url:
            found = run(["git", "ls-remote", url, f"refs/heads/{served.BRANCH}"]).stdout
    else:
        source = sync.applications()[sync.ROOT]["spec"]["source"]
        found = run(["git", "ls-remote", source["repoURL"], f"refs/heads/{source['targetRevision']}"]).stdout
    if not found:
        raise Failure("the repository has no such branch: push to it first")
    return found.partition("\t")[0]


def first_run() -> None:
    """One pipeline run, if the predictor waits for its first model."""
    if "deployment/fastapi" in platform.late_workloads():
        with phase("first pipeline run"), runs.airflow() as client:
            runs.run_once(client)


def announce_takeover(env: str, settings: list[str]) -> None:
    """Say what becomes of a platform that Helm installed."""
    if platform.release():
        differing = platform.changes(env, settings)
        told = f"changes {', '.join(differing)}" if differing else "changes no object"
        say(f"Helm's release {RELEASE} is taken over by Argo CD, which {told}")


def up(env: str, seconds: float, train: bool, settings: list[str]) -> None:
    """From a cluster with the platform's images to a platform that is as Git says."""
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
    if platform.release():
        with phase("forget Helm's release"):
            say(f"{handover.to_argocd()} objects changed hands")
    print(sync.table(), flush=True)


def remove() -> None:
    """Applications with their objects, then Argo CD."""
    with phase("delete the Applications", then="Argo CD"):
        sync.delete_all()
    with phase("delete Argo CD"):
        official = manifests.install(manifests.load(build.official_manifests().read_text()))
        wide = [item for item in official if "namespace" not in item["metadata"]]
        kube("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=180s", timeout=200)
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": wide})
        kube("delete", "--ignore-not-found", "-f", "-", stdin=text, timeout=200)
    say("postgres and minio stay with their data: `make gitops` or `make install` takes them up again")


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.argocd", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = ["up", "build", "install", "push", "wait", "status", "watch", "to-helm", "remove"]
    parser.add_argument("action", choices=actions)
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment: argocd/root-<env>.yaml (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=900, help="patience, or length of the watch (%(default)s)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="PATH=VALUE", help="up, to-helm: a value on top, as helm's --set"
    )
    parser.add_argument("--no-run", action="store_true", help="up: start no pipeline run")
    options = parser.parse_args()
    if options.action == "up":
        if is_local():  # any other cluster pulls what its environment names
            stream("-m", "ci.images", "load", "--env", options.env)
        up(options.env, options.seconds, not options.no_run, options.set)
    elif options.action == "build":
        say(f"Argo CD's image is {build.build()}")
    elif options.action == "install":
        install()
    elif options.action == "push":
        revision = push(options.env)
        sync.refresh()
        sync.wait(revision, options.seconds)
    elif options.action == "wait":
        sync.wait(wanted(), options.seconds)
    elif options.action == "status":
        print(sync.table(), flush=True)
    elif options.action == "watch":
        return 1 if sync.watch(options.seconds) else 0
    elif options.action == "to-helm":
        with phase("hand the platform to Helm"):
            say(f"{handover.to_helm(options.env, options.set)} objects changed hands; `make install` upgrades from now")
    else:
        remove()
    return 0


if __name__ == "__main__":
    main(_main)
