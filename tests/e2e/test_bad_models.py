"""Promotes damaged models one after another under load: no request fails, no answer changes, no pod restarts."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from ci.common.console import say, wait_for
from ci.common.kube import PLATFORM, forward, trouble
from ci.deploy import workloads
from tests.kit.clients import Clients
from tests.kit.damaged_bundles import corpus
from tests.kit.long_form import LONG
from tests.kit.promotions import Registrar, confirmed, promote_each, registered

pytestmark = pytest.mark.e2e

EVERY = 1 if LONG else 6  # all damaged models, or every sixth
SECONDS = 150  # limit for one refusal: read the alias, download, and stop a trial that hangs (trialSeconds)


def restarts() -> dict[str, int]:
    """Number of restarts of each Ready pod of the predictor."""
    return {
        pod["metadata"]["name"]: sum(box["restartCount"] for box in pod["status"]["containerStatuses"])
        for pod in workloads.pods()
        if pod["metadata"]["labels"].get("app.kubernetes.io/name") == "fastapi"
        and "deletionTimestamp" not in pod["metadata"]
        and not trouble(pod)
    }


def test_bad_models_do_not_change_answers(predictor: str, mlflow: str, tmp_path: Path) -> None:
    registrar = Registrar(mlflow, "house-price", "champion")
    pods = restarts()
    with ExitStack() as stack:
        urls = [stack.enter_context(forward(PLATFORM, f"pod/{name}", 8000)) for name in pods]
        damages = corpus()
        assert len(damages) >= 60
        versions = stack.enter_context(registered(registrar, damages[::EVERY], tmp_path))
        with Clients(threads=2, pause=0.1) as clients:
            refusals = promote_each(registrar, versions, urls, SECONDS)
    champion = registrar.champion(tmp_path / "after")
    with ExitStack() as stack:
        for name in pods:
            url = stack.enter_context(forward(PLATFORM, f"pod/{name}", 8000))
            wait_for(f"{name} confirmed", partial(confirmed, url, champion), 60)
    say(f"{len(refusals)} bad models: {clients}")
    assert all(refusal.reason for refusal in refusals)
    assert clients.failures == []
    assert len(clients.prices) == len(clients.answered) == 1, f"answers changed: {clients.prices}, {clients.answered}"
    assert restarts() == pods
