"""From the last release to this checkout by Argo CD, with a pipeline run under way and clients asking for prices.

The last release is the newest tag v*; before the first one, the commit that Argo CD first delivered. UPGRADE_FROM names
another.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ci import platform, runs
from ci.argocd import __main__ as argocd
from ci.argocd import sync
from ci.console import phase, run, say, wait_for
from ci.images import __main__ as images
from ci.images import store
from ci.images.store import Built
from ci.kube import kube
from ci.paths import CHECKOUT
from tests.gitops.clients import Clients
from tests.gitops.data import counts, ledger
from tests.gitops.delivery import ENV

pytestmark = pytest.mark.e2e
FIRST_DELIVERED = "7241831"


def git(*words: str, check: bool = True) -> str:
    return run(["git", "-C", str(CHECKOUT), *words], check=check).stdout.strip()


def last_release() -> str:
    """The commit to upgrade from."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*", check=False)
    return git("rev-parse", f"{os.environ.get('UPGRADE_FROM') or tag or FIRST_DELIVERED}^{{commit}}")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The last release, delivered with its own commands and fed with two batches; yields its commit."""
    commit, folder = last_release(), tmp_path_factory.mktemp("release") / "checkout"
    if "applications.argoproj.io" in kube("get", "crd", "-o", "name"):
        argocd.remove()
    platform.remove()
    git("worktree", "add", "--detach", str(folder), commit)
    try:
        with phase(f"deliver {commit[:7]} with its own commands"):
            subprocess.run(["make", "-C", str(folder), "images"], check=True, env=_environment())
            load_named(folder)
            subprocess.run(["make", "-C", str(folder), "gitops"], check=True, env=_environment())
        with runs.airflow() as client:
            runs.run_once(client)
        yield commit
    finally:
        git("worktree", "remove", "--force", str(folder))


def load_named(folder: Path) -> None:
    """Put the images of another checkout into the cluster; some releases take a tag for the whole of it."""
    named = yaml.safe_load((folder / f"values/images-{ENV}.yaml").read_text())["global"]["images"]
    built = [Built(name, one["tag"], one.get("digest", ""), 0, 0, store.folder() / f"{name}-{one['tag']}.tar")
             for name, one in named.items()]  # fmt: skip
    images.load(built, images.REGISTRY)


def _environment() -> dict[str, str]:
    """Nothing of this checkout's Python environment."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("VIRTUAL_ENV", "PYTHON", "MAKE"))}


def batches() -> list[list[str]]:
    """Every stored batch: number, content, rows."""
    return ledger("select batch_number, sha256, rows from ledger.batches order by 1, 2")


def test_upgrade_fails_no_request_and_loses_no_row(old: str) -> None:
    before, stored = counts(), batches()
    say(f"{old[:7]} holds {before}")
    with Clients() as clients:
        with runs.airflow() as client:
            run_id = client.trigger()

            def training() -> bool:
                return any(task["task_id"] == "train" and task["state"] == "running" for task in client.tasks(run_id))

            wait_for("a training under way", training, 180)
        began = time.monotonic()
        argocd.up(ENV, 900, train=True, settings=[])
        say(f"all Synced Healthy Succeeded after {time.monotonic() - began:.0f} s")
        with runs.airflow() as client:
            under_way = client.follow(run_id)
            assert under_way.state == "success", under_way
            after = runs.run_once(client)
        assert after.state == "success", after
        revision = argocd.wanted()
        sync.wait(revision, 300)
        time.sleep(10)  # and what the last of the old pods leave behind
    now = counts()
    say(f"meanwhile {clients}")
    say(f"{git('rev-parse', '--short', 'HEAD')} holds {now}")
    assert clients.failures == []
    assert batches()[: len(stored)] == stored, "what was stored is stored"
    assert len(batches()) >= len(stored) + 2
    assert {name: count for name, count in before.items() if now.get(name, 0) < count} == {}
    assert sync.all_late(revision) == {}
