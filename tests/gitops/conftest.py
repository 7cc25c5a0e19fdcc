"""Brings the platform into the starting state that a test module needs."""

from __future__ import annotations

import time

import pytest

from ci.argocd import actions as argocd
from ci.argocd import build, served, sync
from ci.cluster.confirm import confirm_removal
from ci.common.console import phase, say, wait_for
from ci.common.kube import kube
from ci.deploy import helm_release, platform, runs, workloads
from tests.kit.platform_data import versions, wait_for_logs

from .delivery import ENV


def remove_platform() -> None:
    """Remove the Applications, the release and the data of an earlier platform. Argo CD stays."""
    confirm_removal(platform.REMOVED)
    if "applications.argoproj.io" in kube("get", "crd", "-o", "name"):
        with phase("remove the existing Applications"):
            sync.delete_all()
    platform.remove()


@pytest.fixture(scope="session", autouse=True)
def argocd_image() -> None:
    """Have Argo CD compiled before any test, because compiling takes the processors from a loaded platform."""
    if argocd.is_local():
        build.build()


@pytest.fixture(scope="session")
def installed_by_helm() -> None:
    """Have the platform installed with Helm, with a model. An existing release, with its data, is used again."""
    confirm_removal(platform.REMOVED)
    if not helm_release.release() or platform.delivered_by_argocd():
        remove_platform()
    platform.install(ENV)
    workloads.wait_ready()
    if not versions()["champion"]:
        with runs.airflow() as client:
            for _ in range(2):
                runs.run_once(client)
        wait_for_logs(2)

    def settled() -> bool:
        late = workloads.late_workloads()
        return not late and not any("deletionTimestamp" in pod["metadata"] for pod in workloads.pods())

    wait_for("the predictor, and the end of replaced pods", settled, 180)


@pytest.fixture(scope="session")
def delivered() -> None:
    """Deliver the checkout with Argo CD, with a model. An existing platform is adopted."""
    argocd.up(ENV, 600, train=True, settings=[])


def from_nothing() -> tuple[str, float]:
    """Remove the platform, install Argo CD, and push the checkout to its Git server.

    Returns:
        the revision, and the time (time.monotonic) just before the push.
    """
    remove_platform()
    argocd.install()
    began = time.monotonic()
    return served.push(ENV, message=f"from nothing, {time.time():.0f}"), began


def follow(revision: str, began: float) -> dict[str, float]:
    """Wait for all Applications, and start the first pipeline run in between; returns the seconds of each step."""
    times: dict[str, float] = {}
    sync.refresh()
    sync.wait(revision, 600, but=("fastapi",))
    times["all but the predictor Synced and Healthy"] = time.monotonic() - began
    argocd.first_run()
    times["first pipeline run ended"] = time.monotonic() - began
    sync.wait(revision, 180)
    times["all Synced and Healthy"] = time.monotonic() - began
    for step, seconds in times.items():
        say(f"from nothing: {step} after {seconds:.0f} s")
    return times
