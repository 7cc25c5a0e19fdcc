"""A version can be the challenger only if it can serve, and the champion never moves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mlflow
import psycopg
import pytest
from pydantic import ValidationError

from ci.local.processes import LocalPlatform
from core.errors import BundleError, RegistryError
from pipeline.arguments import parser
from pipeline.commands import rollback, shadow, smoke
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.settings import PipelineSettings
from pipeline.tracking import Tracking
from tests.services.ledgers import new_ledger
from tests.services.pipeline.command import in_own_process, in_this_process
from tests.services.pipeline.conftest import SETTINGS


def test_command_needs_a_version_or_off(capsys: pytest.CaptureFixture[str]) -> None:
    read = parser().parse_args
    one, none = read(["shadow", "--version", "4"]), read(["shadow", "--off"])
    assert (one.version, one.off, none.version, none.off) == ("4", False, None, True)
    for words in ([], ["--version", "4", "--off"]):
        with pytest.raises(SystemExit):
            read(["shadow", *words])
    assert "--off" in capsys.readouterr().err


def test_alias_of_the_champion_is_refused(pipeline_settings: PipelineSettings) -> None:
    with pytest.raises(ValidationError, match="it is the alias of the champion"):
        PipelineSettings(**{**pipeline_settings.model_dump(), "shadow_alias": pipeline_settings.model_alias})


@pytest.mark.services
@pytest.mark.timeout(900)
class TestOnMlflow:
    """On a real server, with versions 1 (the champion), 2, and 3 (damaged)."""

    @pytest.fixture
    def context(self, platform: LocalPlatform, tmp_path: Path, request: pytest.FixtureRequest) -> Context:
        name = f"shadow-{abs(hash(request.node.nodeid))}"
        changes = {"mlflow_tracking_uri": platform.mlflow_url, "model_name": name, "experiment_name": name}
        changes["ledger_dsn"] = new_ledger(platform, name)
        context = Context(SETTINGS.model_copy(update=changes))
        tracking = Tracking(context.settings, context.registry)
        manifest = smoke.grow(context.settings, tmp_path / "bundle")
        for number in ("1", "2", "3"):
            if number == "3":
                (tmp_path / "bundle" / "model.txt").write_text("tree")
            with tracking.start_run(number, {"dag_run": "test"}) as active:
                tracking.log_bundle(tmp_path / "bundle", manifest)
            assert tracking.register(active.info.run_id, {"manifest_sha256": manifest}) == number
            context.ledger.add_training(active.info.run_id, 0, [], 1, "test", {}, manifest)
        tracking.set_alias("1")
        return context

    @pytest.fixture
    def aliases(self, context: Context) -> Callable[[], dict[str, str]]:
        client = mlflow.MlflowClient(context.settings.mlflow_tracking_uri)
        return lambda: dict(client.get_registered_model(context.settings.model_name).aliases)

    def test_alias_is_set_and_removed(
        self, platform: LocalPlatform, context: Context, aliases: Callable[[], dict[str, str]]
    ) -> None:
        own = {name: getattr(context.settings, name) for name in ("model_name", "experiment_name", "ledger_dsn")}
        environment = platform.stage_environment(**own)
        for run, words, message, code, named in (
            (in_this_process, ["--off"], "no version is the challenger already", 99, {}),
            (in_own_process, ["--version", "2"], "version 2 is the challenger", 0, {"challenger": "2"}),
            (in_this_process, ["--version", "2"], "version 2 is the challenger already", 99, {"challenger": "2"}),
            (in_this_process, ["--off"], "no version is the challenger instead of version 2", 0, {}),
        ):
            done = run(environment, "shadow", *words)
            assert (done.returncode, aliases()) == (code, {"champion": "1"} | named), done.stderr
            assert message in done.stdout
        with psycopg.connect(context.settings.ledger_dsn) as connection:
            moves = connection.execute(
                "select before, version, run, actor from ledger.challengers order by id"
            ).fetchall()
        assert [move[:3] for move in moves] == [(None, "2", "by hand"), ("2", None, "by hand")]
        assert all(move[3] for move in moves)

    def test_alias_that_cannot_be_moved_is_not_recorded(
        self, context: Context, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: str) -> None:
            raise RegistryError("MLflow is away")

        monkeypatch.setattr(Tracking, "set_challenger", away)
        with pytest.raises(RegistryError, match="MLflow is away"):
            shadow.run(context, "2", off=False)
        with psycopg.connect(context.settings.ledger_dsn) as connection:
            assert connection.execute("select count(*) from ledger.challengers").fetchone() == (0,)

    def test_version_that_cannot_serve_is_refused_and_the_alias_stays(
        self, context: Context, aliases: Callable[[], dict[str, str]]
    ) -> None:
        shadow.run(context, "2", off=False)
        for version, error, words in (
            ("9", RegistryError, "has no version 9"),
            ("1", RegistryError, "version 1 is the champion"),
            ("3", BundleError, "model.txt"),
        ):
            with pytest.raises(error, match=words):
                shadow.run(context, version, off=False)
            assert aliases() == {"champion": "1", "challenger": "2"}
        with pytest.raises(SkipRun):
            shadow.run(context, "2", off=False)

    def test_bundle_that_the_pipeline_did_not_train_gets_no_alias(
        self, context: Context, tmp_path: Path, aliases: Callable[[], dict[str, str]]
    ) -> None:
        """Its tag fits, because each client of MLflow can set it."""
        foreign = smoke.grow(context.settings.model_copy(update={"seed": 8}), tmp_path / "foreign" / "bundle")
        tracking = Tracking(context.settings, context.registry)
        with tracking.start_run("foreign", {"dag_run": "test"}) as active:
            tracking.log_bundle(tmp_path / "foreign" / "bundle", foreign)
        version = tracking.register(active.info.run_id, {"manifest_sha256": foreign})
        for act in (lambda: shadow.run(context, version, off=False), lambda: rollback.run(context, version, "why")):
            with pytest.raises(BundleError, match="the ledger has no training of MLflow run"):
                act()
        context.ledger.add_training(active.info.run_id, 0, [], 1, "test", {}, "ab" * 32)
        with pytest.raises(BundleError, match="but the ledger has abababababab: somebody replaced it"):
            rollback.run(context, version, "why")
        assert aliases() == {"champion": "1"}
        assert context.ledger.champions() == []
