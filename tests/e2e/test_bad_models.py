"""Promotes damaged models one after another under load: no request fails, no answer changes, no pod restarts."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from ci.common.console import say, wait_for
from ci.common.kube import PLATFORM, forward, trouble
from ci.deploy import workloads
from core.model.bundle import MANIFEST
from tests.kit.clients import Clients
from tests.kit.damaged_bundles import Damaged, corpus
from tests.kit.long_form import LONG
from tests.kit.platform_data import mlflow_login, trusted
from tests.kit.promotions import Registrar, confirmed, promote_each, refusal, registered

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
    pods = restarts()
    with ExitStack() as stack:
        registrar = Registrar(mlflow, "house-price", "champion", stack.enter_context(trusted()), mlflow_login())
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


def test_healthy_model_that_the_pipeline_did_not_promote_is_refused(
    predictor: str, mlflow: str, tmp_path: Path
) -> None:
    """Each client that may write to MLflow can register a bundle with a matching tag and move the alias to it."""
    foreign = Registrar(mlflow, "house-price", "champion", login=mlflow_login())
    champion = foreign.champion(tmp_path / "champion")
    sha256 = hashlib.sha256((tmp_path / "champion" / MANIFEST).read_bytes()).hexdigest()
    try:
        version = foreign.register(Damaged("a copy", tmp_path / "champion", sha256))
        foreign.promote(version)
        wait_for("the refusal", partial(refusal, predictor, version), SECONDS)
        assert "the ledger has no promotion or rollback to version" in str(refusal(predictor, version))
        assert httpx.get(f"{predictor}/model", timeout=10).json()["version"] == champion
    finally:
        foreign.promote(champion)
        foreign.remove()
    wait_for("the champion", partial(confirmed, predictor, champion), 60)
