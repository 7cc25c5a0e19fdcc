"""One platform, brought to Argo CD in the way that a module of tests asks for."""

from __future__ import annotations

import time

import pytest

from ci import platform, runs
from ci.argocd import __main__ as argocd
from ci.argocd import served, sync
from ci.console import phase, say
from ci.kube import kube

from .data import wait_for_logs
from .delivery import ENV


def remove_platform() -> None:
    """Applications, release, data: nothing of an earlier platform stays; Argo CD does."""
    if "applications.argoproj.io" in kube("get", "crd", "-o", "name"):
        with phase("remove the Applications that are there"):
            sync.delete_all()
    platform.remove()


@pytest.fixture(scope="session")
def installed_by_helm() -> None:
    """A platform of `helm install` with two batches, a trained and promoted model."""
    remove_platform()
    platform.install(ENV)
    platform.wait_ready()
    with runs.airflow() as client:
        for _ in range(2):
            runs.run_once(client)
    wait_for_logs(2)


@pytest.fixture(scope="session")
def delivered() -> None:
    """A platform that is as the checkout says, with a model: what is there is taken over."""
    argocd.up(ENV, 600, train=True, settings=[])


def from_nothing() -> tuple[str, float]:
    """A cluster with Argo CD and no platform, and the checkout's commit in its Git server.

    Returns:
        the revision, and the moment (of time.monotonic) at which the commit was pushed.
    """
    remove_platform()
    argocd.install()
    began = time.monotonic()
    return served.push(ENV, message=f"from nothing, {time.time():.0f}"), began


def follow(revision: str, began: float) -> dict[str, float]:
    """Wait for all Applications, with the first pipeline run in between; returns the seconds of each step."""
    times: dict[str, float] = {}
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
