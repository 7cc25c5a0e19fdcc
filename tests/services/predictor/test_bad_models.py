"""Some of the corpus against the service's process and a real MLflow, by the same steps as on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from ci.console import wait_for
from ci.local import LocalPlatform
from tests.gitops.clients import Clients

from .conftest import NAME, Model
from .damaged import Damage, Damaged, corpus
from .promotions import Registrar, confirmed, promote_each, registered

pytestmark = pytest.mark.services

ALL = corpus()
SOME = [*ALL[::9], *(damage for damage in ALL if damage.name.endswith(("never ends", "larger than may be downloaded")))]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    with LocalPlatform(tmp_path / "local") as local:
        local.start_mlflow()
        yield local


def worker(platform: LocalPlatform) -> str:
    master = platform.pid("predictor")
    return Path(f"/proc/{master}/task/{master}/children").read_text().split()[0]


def test_no_bad_model_changes_an_answer(platform: LocalPlatform, models: tuple[Model, Model], tmp_path: Path) -> None:
    MlflowClient(platform.mlflow_url).create_registered_model(NAME)
    registrar = Registrar(platform.mlflow_url, NAME, "champion")
    good = registrar.register(Damaged("good", models[0].folder, models[0].sha256))
    registrar.promote(good)
    url = platform.start_predictor(trial_seconds="5")
    wait_for("a model", partial(ready, url, good), 30)
    before = worker(platform)
    damages: list[Damage] = list({damage.name: damage for damage in SOME}.values())
    registrar = Registrar(
        platform.mlflow_url, NAME, "champion"
    )  # which removes what it registers, but not the good one
    with (
        registered(registrar, damages, tmp_path) as versions,
        Clients(threads=2, pause=0.1, url=url) as clients,
    ):
        told = promote_each(registrar, versions, [url], 60)
    wait_for("the good version", partial(confirmed, url, good), 30)
    assert [refused.name for refused in told] == [damage.name for damage in damages]
    assert all(refused.reason for refused in told)
    assert clients.failures == []
    assert set(clients.answered) == {good}
    assert len(clients.prices) == 1
    assert worker(platform) == before, "the worker's process was ended"


def ready(url: str, version: str) -> bool:
    try:
        return confirmed(url, version)
    except KeyError:  # no model yet
        return False
