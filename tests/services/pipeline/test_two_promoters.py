"""Simultaneous promotions and rollbacks end with one champion and a consistent ledger."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import pytest

from ci.local.processes import LocalPlatform
from core.errors import HouseError, LedgerError, RegistryError
from core.ledger import Ledger
from pipeline.commands import lineage, rollback
from pipeline.evaluation import verdict
from pipeline.outcome import SkipRun
from pipeline.stages import promote, reject
from tests.services.conftest import Provisioned
from tests.services.ledgers import new_ledger
from tests.services.pipeline.command import in_own_process, in_this_process
from tests.services.pipeline.loop import STAGE, WON, Loop

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]

EASY = {"min_mae_gain": "0", "min_sure_gain": "0", "max_rmse_loss": "9", "max_segment_loss": "9"}


def challenge(loop: Loop, until: str = "evaluate") -> str:
    """Run the stages on the next batch up to `until`; returns the id of the training's run."""
    done: dict[str, Any] = {}
    for name in WON[: WON.index(until) + 1]:
        result = loop.stage(name, done)
        done |= {reference: result[reference] for reference in STAGE[name].gives}
    return str(done["run_id"])


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """Run all at the same time; returns the result or the error of each."""

    def outcome(act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (HouseError, SkipRun) as error:
            return error

    with ThreadPoolExecutor(len(acts)) as together:
        return list(together.map(outcome, acts))


def rivalry(loop: Loop) -> tuple[Loop, list[str]]:
    """The loop with champion 1, and two runs that were compared with it and won."""
    loop.settings |= EASY
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Ledger, "unjudged", lambda _: None)  # else the second run would resume the batch of the first
        promote.run(loop.context, challenge(loop))
        assert loop.champion() == "1"
        runs = [challenge(loop), challenge(loop)]
    for run in runs:  # the second batch came after the evaluation of the first run
        assert loop.stage("evaluate", {"run_id": run})["promoted"], "the test needs two winners"
    return loop, runs


@pytest.fixture
def rivals(loop: Loop) -> tuple[Loop, list[str]]:
    """A loop of the test with two rivals."""
    return rivalry(loop)


@pytest.fixture(scope="module")
def shared(platform: LocalPlatform, minio: Provisioned) -> tuple[Loop, list[str]]:
    """A loop with two rivals that tests share, because it takes three trainings. They run in their order."""
    new_ledger(platform, "promoters")
    return rivalry(Loop(platform, minio, "promoters"))


def test_two_promotions_end_with_one_champion_and_a_consistent_ledger(rivals: tuple[Loop, list[str]]) -> None:
    loop, runs = rivals
    acts = [lambda run=run: promote.run(loop.context, run) for run in runs]
    outcomes = at_once(*acts, *acts)
    refused = [outcome for outcome in outcomes if isinstance(outcome, RegistryError)]
    promoted = {outcome["version"] for outcome in outcomes if isinstance(outcome, dict)}
    assert len(promoted) == 1, f"exactly one may win: {outcomes}"
    assert len(refused) == 2
    assert all("but the champion is version" in str(error) for error in refused)
    assert loop.champion() in promoted
    verdicts = [loop.context.ledger.promotion(run) for run in runs]
    assert [v["version"] for v in verdicts if v and v["promoted"]] == [loop.champion()]
    assert sum(v is None for v in verdicts) == 1, "the other run has a verdict already"
    [loser] = [run for run, verdict in zip(runs, verdicts, strict=True) if verdict is None]
    again = loop.stage("evaluate", {"run_id": loser})
    assert again["champion"] is not None, "the new evaluation has no champion"
    act = promote if again["promoted"] else reject
    assert act.run(loop.context, loser)["promoted"] is again["promoted"]


def test_failure_between_verdict_and_alias_changes_neither(
    shared: tuple[Loop, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, (_, run) = shared
    assert loop.champion() == "1"
    before, moves = loop.everything(), loop.context.ledger.champions()
    training = loop.context.ledger.training(run)
    assert training is not None
    sha256 = str(training["manifest_sha256"])

    def broken(*_: Any) -> None:
        raise RegistryError("the alias could not be set")

    with monkeypatch.context() as patched:
        patched.setattr(verdict.Tracking, "set_alias", broken)
        with pytest.raises(RegistryError, match="the alias could not be set"):
            promote.run(loop.context, run)
    after = loop.everything()
    assert (after["ledger"], after["champion"]) == (before["ledger"], before["champion"])
    assert loop.context.ledger.champions() == moves
    assert not any(loop.context.ledger.is_champion(version, sha256) for version in after["versions"])
    assert promote.run(loop.context, run)["promoted"], "a second run succeeds"
    assert loop.champion() != "1"
    assert loop.context.ledger.is_champion(str(loop.champion()), sha256)


def test_waiting_too_long_for_the_lock_is_an_error(loop: Loop, tmp_path: Path) -> None:
    with (
        loop.context.ledger.exclusive(),
        pytest.raises(LedgerError, match="another promotion or rollback is still running after 1 s"),
        loop.context.ledger.exclusive(seconds=1),
    ):
        pass


@pytest.fixture(scope="module")
def second(shared: tuple[Loop, list[str]]) -> Loop:
    """The shared loop with champion version 2, after version 1."""
    loop, runs = shared
    assert promote.run(loop.context, runs[1])["version"] == loop.champion() == "2"  # idempotent
    return loop


def test_invalid_rollback_keeps_the_champion(second: Loop) -> None:
    invalid = [
        ("9", "why", "has no version 9"),
        ("x", "why", "has no version x"),
        ("1", " ", "a rollback needs a reason"),
    ]
    for to, reason, words in invalid:
        with pytest.raises(RegistryError, match=words):
            rollback.run(second.context, to, reason)
        assert second.champion() == "2"


def test_lineage_has_batches_decision_verdict_and_report(second: Loop) -> None:
    environment = {**second.platform.stage_environment(**second.environment), "COMMIT": "3f2a91b"}
    done = in_own_process(environment, "lineage", "--version", "2", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    ledger = second.context.ledger
    assert result["champion"] is True
    assert [(each["number"], each["sha256"]) for each in result["batches"]] == [
        (number, ledger.batch(number).sha256) for number in (0, 1, 2)
    ]
    tags = mlflow.MlflowClient().get_run(result["run"]).data.tags
    assert {f"batch_sha256.{each['number']}": each["sha256"] for each in result["batches"]}.items() <= tags.items()
    assert result["report"] == tags["decision_run"]
    assert (result["decision"]["answer"], result["decision"]["reason"]) == ledger.decision(ledger.batch(2))
    assert result["verdict"]["promoted"] is True
    assert result["code"] == "development"
    assert len(result["bundle_sha256"]) == 64
    assert [move["kind"] for move in result["moves"]] == ["promotion"]
    text = in_this_process(environment, "lineage", "--version", "2")
    assert text.returncode == 0, text.stderr
    for words in (result["run"], result["report"], result["batches"][1]["sha256"], result["verdict"]["reason"]):
        assert words in text.stdout
    stood = ledger.batch(1)
    ledger.set_stored(ledger.receive(1, "f" * 64, stood.rows + 1, "raw/other"))
    other = lineage.run(second.context, "2")
    assert other["batches"][1] == {"number": 1, "sha256": stood.sha256, "clean": None}, "another content"
    assert f"1 {stood.sha256} (replaced by another content since)" in other["summary"]


def test_rollback_moves_the_alias_and_is_recorded(second: Loop) -> None:
    environment = second.platform.stage_environment(**second.environment)
    done = in_own_process(environment, "rollback", "--to", "1", "--reason", "prices of condos were absurd")
    assert done.returncode == 0, done.stderr
    assert "version 1 is the champion instead of version 2: prices of condos were absurd" in done.stdout
    assert second.champion() == "1"
    output = [(move["version"], move["before"], move["kind"]) for move in second.context.ledger.champions()]
    assert output == [("1", None, "promotion"), ("2", "1", "promotion"), ("1", "2", "rollback")]
    assert second.context.ledger.champions()[-1]["reason"] == "prices of condos were absurd"
    before = second.everything(), second.context.ledger.champions()
    with pytest.raises(SkipRun, match="version 1 is the champion already"):
        rollback.run(second.context, "1", "again")
    assert (second.everything(), second.context.ledger.champions()) == before


def test_simultaneous_rollbacks_and_promotion_are_serialised(second: Loop, shared: tuple[Loop, list[str]]) -> None:
    loop, runs = shared
    if second.champion() != "2":
        rollback.run(loop.context, "2", "undo the last rollback")
    loop.stage("evaluate", {"run_id": runs[0]})
    at_once(
        lambda: promote.run(loop.context, runs[0]),
        lambda: rollback.run(loop.context, "1", "one"),
        lambda: rollback.run(loop.context, "2", "other"),
    )
    moves = loop.context.ledger.champions()
    assert moves[-1]["version"] == loop.champion()
    assert [move["before"] for move in moves[1:]] == [move["version"] for move in moves[:-1]], "no chain"
