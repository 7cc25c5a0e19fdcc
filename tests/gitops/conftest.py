"""The platform delivered from nothing by a real Argo CD on the present cluster; what was there before is removed."""

from __future__ import annotations

import time
from collections.abc import Mapping

import pytest

from ci import platform
from ci.argocd import __main__ as argocd
from ci.argocd import served, sync
from ci.console import phase, say
from ci.kube import kube

ENV = "kind"


def deliver(changes: Mapping[str, str | None] | None = None, message: str = "") -> str:
    """Commit what the checkout holds with `changes`, and tell Argo CD; returns the revision."""
    revision = served.push(ENV, changes, message)
    sync.refresh()
    return revision


def restore() -> float:
    """Commit what the checkout holds and wait until the cluster is as it says; returns the seconds that took."""
    began = time.monotonic()
    sync.wait(deliver(message="as the checkout"), 420)
    return time.monotonic() - began


@pytest.fixture(scope="session")
def delivered() -> dict[str, float]:
    """Seconds of each step from a cluster with Argo CD alone to a platform that is as Git says."""
    if "applications.argoproj.io" in kube("get", "crd", "-o", "name"):
        with phase("remove the Applications that are there"):
            sync.delete_all()
    platform.remove()
    argocd.install()
    times: dict[str, float] = {}
    began = time.monotonic()
    revision = served.push(ENV)
    argocd.deliver(ENV)
    sync.refresh()
    sync.wait(revision, 600, but=("fastapi",))
    times["all but the predictor Synced and Healthy"] = time.monotonic() - began
    argocd.first_run()
    times["first pipeline run ended"] = time.monotonic() - began
    sync.wait(revision, 180)
    times["all Synced and Healthy"] = time.monotonic() - began
    for what, seconds in times.items():
        say(f"from nothing: {what} after {seconds:.0f} s")
    return times
