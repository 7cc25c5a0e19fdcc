"""Deliver the platform with Argo CD. A local cluster gets its own Git server with this checkout.

  up        everything: images, Argo CD, Git server, root Application, first pipeline run; ends when all is synced
  build     compile Argo CD and make its image, unless they are in the cache
  install   only Argo CD, on the current cluster
  push      serve the checkout's HEAD, and wait until the cluster is synced to it
  wait      wait until the cluster is synced to the last push, or to the root's branch
  status    every Application                     watch     report drift and self-heals for --seconds
  to-helm   delete the Applications and make their objects a release of Helm; no pod is touched
  remove    Applications and Argo CD; the platform's data stays until `make remove`. Needs CONFIRM=<context> if
            `make cluster` did not create the cluster

`up` takes over a platform that Helm installed; it replaces a pod only if its values differ.

With CLUSTER=current, Argo CD's official images and the repository in argocd/ are used.
"""

from __future__ import annotations

import argparse

from ci.argocd import build, handover, sync
from ci.argocd.actions import install, is_local, push, remove, up, wanted
from ci.common.console import main, phase, say, stream
from ci.common.environments import known_env


def _main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ci.argocd", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = ["up", "build", "install", "push", "wait", "status", "watch", "to-helm", "remove"]
    parser.add_argument("action", choices=actions)
    parser.add_argument(
        "--env", type=known_env, default="kind", help="environment: argocd/root-<env>.yaml (default: %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=900, help="timeout, or length of the watch (%(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="up, to-helm: override a value, like helm --set",
    )
    parser.add_argument("--no-run", action="store_true", help="up: start no pipeline run")
    options = parser.parse_args()
    if options.action == "up":
        if is_local():  # other clusters pull images
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
