"""Upgrades from the last release to this checkout with Argo CD, during a pipeline run and requests for prices.

The last release is the newest tag v*. Before the first tag, it is the first commit whose cluster is kind. UPGRADE_FROM
sets another commit.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from ci.argocd import actions as argocd
from ci.argocd import sync
from ci.common.console import phase, run, say, wait_for
from ci.common.kube import kube
from ci.common.paths import CHECKOUT
from ci.deploy import platform, runs
from ci.images import actions as images
from ci.images import store
from ci.images.catalog import REGISTRY
from ci.images.store import Built
from tests.kit.clients import Clients
from tests.kit.platform_data import counts, ledger

pytestmark = pytest.mark.e2e
ENV = "kind"
FIRST_ON_KIND = "7314d2e"


def git(*words: str, check: bool = True) -> str:
    return run(["git", "-C", str(CHECKOUT), *words], check=check).stdout.strip()


def last_release() -> str:
    """The commit from which the test upgrades."""
    tag = git("describe", "--tags", "--abbrev=0", "--match", "v*", check=False)
    return git("rev-parse", f"{os.environ.get('UPGRADE_FROM') or tag or FIRST_ON_KIND}^{{commit}}")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Delivers the last release with its own commands and lets it process two batches. Yields its commit."""
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
    """Load the images of another checkout into the cluster. Some releases treat a tag as the whole identity."""
    images_file = yaml.safe_load((folder / f"values/images-{ENV}.yaml").read_text())["global"]["images"]
    built = [Built(name, image["tag"], image.get("digest", ""), 0, 0, store.folder() / f"{name}-{image['tag']}.tar")
             for name, image in images_file.items()]  # fmt: skip
    images.load(built, REGISTRY)


def _environment() -> dict[str, str]:
    """The environment without this checkout's Python variables."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("VIRTUAL_ENV", "PYTHON", "MAKE"))}


def batches() -> list[list[str]]:
    """Every stored batch: number, sha256, rows."""
    return ledger("select batch_number, sha256, rows from ledger.batches order by 1, 2")


def test_upgrade_fails_no_request_and_loses_no_row(old: str) -> None:
    before, stored = counts(), batches()
    say(f"{old[:7]} holds {before}")
    with Clients() as clients:
        with runs.airflow() as client:
            run_id = client.trigger()

            def training() -> bool:
                return any(task["task_id"] == "train" and task["state"] == "running" for task in client.tasks(run_id))

            wait_for("the start of a training", training, 180)
        began = time.monotonic()
        argocd.up(ENV, 900, train=True, settings=[])
        say(f"all Synced Healthy Succeeded after {time.monotonic() - began:.0f} s")
        with runs.airflow() as client:
            interrupted = client.follow(run_id)
            assert interrupted.state == "success", interrupted
            after = runs.run_once(client)
        assert after.state == "success", after
        revision = argocd.wanted()
        sync.wait(revision, 300)
        time.sleep(10)  # for the last requests to the old pods
    now = counts()
    say(f"clients: {clients}")
    say(f"{git('rev-parse', '--short', 'HEAD')} holds {now}")
    assert clients.failures == []
    assert batches()[: len(stored)] == stored, "the upgrade changed stored batches"
    assert len(batches()) >= len(stored) + 2
    assert {name: count for name, count in before.items() if now.get(name, 0) < count} == {}
    assert sync.all_late(revision) == {}
    assert ledger("select run_id from ledger.trainings where manifest_sha256 is null") == [], "hashes not recorded"
