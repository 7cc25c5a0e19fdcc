"""Some damaged bundles against a process of the service and a real MLflow, with the same steps as on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ci.common.console import wait_for
from ci.local.processes import LocalPlatform
from tests.kit.clients import Clients
from tests.kit.damaged_bundles import Damage, Damaged, corpus
from tests.kit.promotions import Registrar, confirmed, promote_each, registered
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger, trust_as_champion

pytestmark = pytest.mark.services

NAME = "house-price-bad-models"
ALL = corpus()
SOME = [
    *ALL[::9],
    *(damage for damage in ALL if damage.name.endswith(("never ends", "larger than the download limit"))),
]


@pytest.fixture
def platform(tracking: LocalPlatform) -> Iterator[LocalPlatform]:
    yield tracking
    tracking.stop("predictor")


def worker(platform: LocalPlatform) -> str:
    master = platform.pid("predictor")
    return Path(f"/proc/{master}/task/{master}/children").read_text().split()[0]


def test_no_bad_model_changes_an_answer(platform: LocalPlatform, models: tuple[Model, Model], tmp_path: Path) -> None:
    MlflowClient(platform.mlflow_url).create_registered_model(NAME)
    dsn = new_ledger(platform, "bad-models")
    trust = partial(trust_as_champion, dsn)  # as if the pipeline had promoted them
    registrar = Registrar(platform.mlflow_url, NAME, "champion", trust)
    good = registrar.register(Damaged("good", models[0].folder, models[0].sha256))
    registrar.promote(good)
    url = platform.start_predictor(
        trial_seconds="5",
        model_name=NAME,
        ledger_dsn=dsn,
        bundle_dir=str(tmp_path / "bundles"),
        prediction_log_dir=str(tmp_path / "predictions"),
    )
    wait_for("a model", partial(ready, url, good), 30)
    before = worker(platform)
    damages: list[Damage] = list({damage.name: damage for damage in SOME}.values())
    # a second one, because it removes its versions at the end, and the good version must stay
    registrar = Registrar(platform.mlflow_url, NAME, "champion", trust)
    with (
        registered(registrar, damages, tmp_path) as versions,
        Clients(threads=2, pause=0.1, url=url) as clients,
    ):
        refusals = promote_each(registrar, versions, [url], 60)
    wait_for("the good version", partial(confirmed, url, good), 30)
    assert [refused.name for refused in refusals] == [damage.name for damage in damages]
    assert all(refused.reason for refused in refusals)
    assert clients.failures == []
    assert set(clients.answered) == {good}
    assert len(clients.prices) == 1
    assert worker(platform) == before, "the worker process was restarted"


def ready(url: str, version: str) -> bool:
    try:
        return confirmed(url, version)
    except KeyError:  # no model is loaded yet
        return False
