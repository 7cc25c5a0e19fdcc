"""Damaged and wrong models, promoted one after another under load: no answer fails, none changes, no pod restarts."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from ci import platform
from ci.console import say, wait_for
from ci.kube import PLATFORM, forward, trouble
from tests.gitops.clients import Clients
from tests.services.predictor.damaged import corpus
from tests.services.predictor.promotions import Registrar, confirmed, promote_each, registered

pytestmark = pytest.mark.e2e

SECONDS = 150  # for one refusal: a look at the alias, a download, and a trial that must be ended (trialSeconds)


def restarts() -> dict[str, int]:
    """Pods of the predictor that are Ready, and how often each was restarted."""
    return {
        pod["metadata"]["name"]: sum(box["restartCount"] for box in pod["status"]["containerStatuses"])
        for pod in platform.pods()
        if pod["metadata"]["labels"].get("app.kubernetes.io/name") == "fastapi"
        and "deletionTimestamp" not in pod["metadata"]
        and not trouble(pod)
    }


def test_no_bad_model_changes_an_answer(predictor: str, mlflow: str, tmp_path: Path) -> None:
    registrar = Registrar(mlflow, "house-price", "champion")
    pods = restarts()
    with ExitStack() as stack:
        urls = [stack.enter_context(forward(PLATFORM, f"pod/{name}", 8000)) for name in pods]
        versions = stack.enter_context(registered(registrar, corpus(), tmp_path))
        assert len(versions) >= 60
        with Clients(threads=2, pause=0.1) as clients:
            told = promote_each(registrar, versions, urls, SECONDS)
    champion = registrar.champion(tmp_path / "after")
    with ExitStack() as stack:
        for name in pods:
            url = stack.enter_context(forward(PLATFORM, f"pod/{name}", 8000))
            wait_for(f"{name} confirmed", partial(confirmed, url, champion), 60)
    say(f"{len(told)} bad models: {clients}")
    assert all(refused.reason for refused in told)
    assert clients.failures == []
    assert len(clients.prices) == len(clients.answered) == 1, f"answers changed: {clients.prices}, {clients.answered}"
    assert restarts() == pods
