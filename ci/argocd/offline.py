"""Deliver a bundle with Argo CD: install it, push the bundle's charts and values to its Git server, wait for the sync.

    python3 -S -m ci.argocd.offline     in an unpacked bundle; `./install.sh --argocd` calls it

With Python's standard library alone, and without Git on the machine: the Git server's own makes the commit.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from ci.argocd import apply, handover, sync
from ci.argocd.apply import NAMESPACE
from ci.common.console import Failure, main, phase, say, wait_for
from ci.common.kube import PLATFORM, RELEASE, egress_values, kube
from ci.common.paths import CHECKOUT

FOLDER = CHECKOUT / "argocd" / "offline"
INSTALL = "install.json"  # Argo CD's objects
DELIVERY = "delivery.json"  # AppProjects and root Application
TREE = "git"  # files of the served commit
REPOSITORY = "/srv/git/platform.git"
BRANCH, DRAFT = "refs/heads/main", "refs/drafts/bundle"


def commit(tree: Path, parent: str, title: str, when: int) -> str:
    """A stream for `git fast-import`: one commit of the draft, which holds exactly the files of a folder."""
    who = f"house-platform <house-platform@localhost> {when} +0000"
    lines = [f"commit {DRAFT}", f"committer {who}", _data(f"{title}\n")]
    lines += [f"from {parent}"] if parent else []
    lines.append("deleteall")
    for path in sorted(path for path in tree.rglob("*") if path.is_file()):
        mode = 100755 if os.access(path, os.X_OK) else 100644
        lines += [f"M {mode} inline {path.relative_to(tree).as_posix()}", _data(path.read_text(encoding="utf-8"))]
    return "\n".join([*lines, "done\n"])


def _data(text: str) -> str:
    return f"data {len(text.encode())}\n{text}"


def git(*words: str, stdin: str | None = None, check: bool = True) -> str:
    """Run Git in the cluster's Git server."""
    program = ["git", "-c", "safe.directory=*", "-C", REPOSITORY]  # another user may own the folder of the volume
    command = ["-n", NAMESPACE, "exec", "-i", "deployment/git", "--", *program, *words]
    return kube(*command, stdin=stdin, check=check).strip()


def serve(tree: Path, title: str) -> str:
    """Serve a folder as the newest commit of the branch; returns it, or the present one if that holds the same."""
    tip = git("rev-parse", "--verify", "--quiet", BRANCH, check=False)
    stream = commit(tree, tip, title, int(time.time()))
    git("fast-import", "--quiet", "--force", "--done", stdin=f"reset {DRAFT}\n\n{stream}")
    draft = git("rev-parse", DRAFT)
    if tip and git("rev-parse", f"{tip}^{{tree}}") == git("rev-parse", f"{draft}^{{tree}}"):
        return tip
    git("update-ref", BRANCH, draft, *([tip] if tip else []))
    return draft


def deliver(folder: Path, title: str, seconds: float) -> None:
    """From a cluster with the images and Secrets to one that is as the bundle says, but for the first model.

    Raises:
        Failure: names what is late, with its reason.
    """
    for name in (INSTALL, DELIVERY):
        if not (folder / name).exists():
            raise Failure(f"{folder / name} is missing: this bundle was made without Argo CD; ./install.sh uses Helm")
    apply.install(json.loads((folder / INSTALL).read_text()))
    with phase("give the bundle to the cluster's Git server"):
        revision = serve(folder / TREE, title)
        say(f"the branch main is at {revision[:7]}")
    with phase("apply AppProjects and root Application", then="wait for all but the first model"):
        apply.apply(apply.with_parameters(json.loads((folder / DELIVERY).read_text()), egress_values()))
    sync.refresh()
    with phase("wait for all but the predictor, which waits for the first model"):
        sync.wait(revision, seconds, but=("fastapi",))
        wait_for("the sync of the predictor", _predictor_synced, seconds)
    if kube("-n", PLATFORM, "get", "secrets", "-l", f"owner=helm,name={RELEASE}", "-o", "name"):
        with phase("forget Helm's release"):
            say(f"{handover.to_argocd()} objects changed hands")
    print(sync.table(), flush=True)


def _predictor_synced() -> bool:
    status = sync.applications().get("fastapi", {}).get("status", {})
    return bool(status.get("sync", {}).get("status") == "Synced")


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -S -m ci.argocd.offline",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--title", default="deliver a bundle", help="of the served commit (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=900, help="patience (default: %(default)s)")
    options = parser.parse_args()
    deliver(FOLDER, options.title, options.seconds)


if __name__ == "__main__":
    main(_main)
