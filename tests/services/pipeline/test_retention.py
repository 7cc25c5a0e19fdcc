"""Retention deletes the bundles of old models, and never one that serves or may serve."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import mlflow
import psycopg
import pytest

from ci.local.processes import LocalPlatform
from core.errors import LedgerError, RegistryError
from pipeline.commands import lineage, retention, smoke
from pipeline.context import Context
from pipeline.tracking import Tracking
from tests.services.ledgers import new_ledger

from .conftest import SETTINGS

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

VERSIONS = {"1": "old champion", "2": "champion", "3": "rejected", "4": "rejected, in the shadow", "5": "no verdict"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a bundle, and the sha256 of its manifest."""
    folder = tmp_path_factory.mktemp("retention") / "bundle"
    return folder, smoke.grow(SETTINGS, folder)


@pytest.fixture
def little_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models include one file of code. Retention deletes all files alike, and uploads of 50 files take long."""
    package = tmp_path / "code" / "core" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.touch()
    monkeypatch.setattr("pipeline.tracking.core", SimpleNamespace(__file__=str(package)))


@pytest.fixture
def context(
    platform: LocalPlatform, bundle: tuple[Path, str], little_code: None, tmp_path: Path, request: pytest.FixtureRequest
) -> Context:
    """The models of `VERSIONS`, all older than the retention of 30 days; one champion is kept."""
    name = f"retention-{abs(hash(request.node.nodeid))}"
    changes = {
        "mlflow_tracking_uri": platform.mlflow_url,
        "ledger_dsn": new_ledger(platform, name),
        "data_uri": tmp_path.as_uri(),
        "model_name": name,
        "experiment_name": name,
        "model_retention_days": 30,
        "kept_champions": 1,
    }
    context = Context(SETTINGS.model_copy(update=changes))
    tracking, ledger = Tracking(context.settings, context.registry), context.ledger
    folder, manifest = bundle
    ledger.set_stored(ledger.receive(0, "ab" * 32, 90, "raw/0"))
    for version in VERSIONS:
        with tracking.start_run(version, {"dag_run": "test"}) as active:
            tracking.log_bundle(folder, manifest)
        run_id = active.info.run_id
        assert tracking.register(run_id, {"manifest_sha256": manifest}) == version
        ledger.add_training(run_id, 0, [0], 90, version, {}, manifest)
        if version != "5":
            ledger.add_promotion(run_id, version, version < "3", "because", None, {})
    for version in ("1", "2"):
        ledger.add_move(version, None, "promotion", "because", manifest)
        tracking.set_alias(version)
    tracking.set_challenger("4")
    with psycopg.connect(changes["ledger_dsn"]) as connection:
        connection.execute("update ledger.promotions set decided_at = now() - interval '31 days'")
        connection.execute("update ledger.champions set at = now() - interval '31 days'")
    return context


@pytest.fixture
def usable(context: Context) -> Callable[[], set[str]]:
    """The versions whose bundle can still be loaded."""

    def find() -> set[str]:
        tracking, versions = Tracking(context.settings, context.registry), set()
        for version in VERSIONS:
            try:
                tracking.bundle(str(tracking.version(version).run_id)).check_golden()
            except RegistryError as error:
                assert "modelRetentionDays" in str(error)  # noqa: PT017 - each version is asked, deleted or not
            else:
                versions.add(version)
        return versions

    return find


def test_only_old_models_without_a_use_lose_their_bundles(
    context: Context, usable: Callable[[], set[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    result = retention.run(context)
    assert usable() == {"2", "4", "5"}
    assert result["bundles"] == 2
    assert result["bytes"] > 1000
    assert capsys.readouterr().out.count(" is deleted: ") == 2
    assert retention.run(context)["bundles"] == 0, "the second time there is nothing to delete"
    assert lineage.run(context, "3")["verdict"] == {"promoted": False, "reason": "because"}


def test_interrupted_deletion_is_finished_by_the_next_one(
    context: Context, usable: Callable[[], set[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise OSError("the connection is lost")

    with monkeypatch.context() as fault:
        fault.setattr(mlflow.MlflowClient, "set_tag", interrupted)
        with pytest.raises(RegistryError, match="cannot be deleted from MLflow: the connection is lost"):
            retention.run(context)
    assert retention.run(context)["bundles"] == 2
    assert usable() == {"2", "4", "5"}


def test_hashes_of_an_earlier_release_are_recorded_once(context: Context) -> None:
    """From MLflow's tags, because nothing else has them. A later change of a tag has no effect."""
    ledger, tracking = context.ledger, Tracking(context.settings, context.registry)
    ledger.add_training("a run that MLflow does not have", 0, [], 1, "old", {}, "")
    with psycopg.connect(context.settings.ledger_dsn) as connection:
        connection.execute("update ledger.trainings set manifest_sha256 = null")
        connection.execute("update ledger.champions set manifest_sha256 = null")
    run_id = str(tracking.version("2").run_id)
    manifest = tracking.manifest_sha256(run_id)
    retention.run(context)
    assert ledger.trainings_without_hash() == []
    assert (ledger.is_champion("2", manifest), ledger.is_trained(manifest)) == (True, True)
    mlflow.MlflowClient().set_tag(run_id, "manifest_sha256", "cd" * 32)
    retention.run(context)
    assert (ledger.is_champion("2", manifest), ledger.is_champion("2", "cd" * 32)) == (True, False)


def test_clock_that_jumps_deletes_nothing(context: Context, usable: Callable[[], set[str]]) -> None:
    with psycopg.connect(context.settings.ledger_dsn) as connection:
        connection.execute("update ledger.retention_clock set seen_at = now() - interval '90 days'")
    with pytest.raises(LedgerError, match="the clock may be wrong"):
        retention.run(context)
    assert usable() == set(VERSIONS)
