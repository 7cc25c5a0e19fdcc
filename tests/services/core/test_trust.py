"""The hashes of the ledger decide which bundles are the pipeline's own, also those of an earlier release."""

from __future__ import annotations

from contextlib import suppress

import psycopg
import pytest

from ci.local.processes import LocalPlatform
from core.errors import MissingTableError
from core.ledger import Ledger
from core.ledger.trainings import HoldoutScores
from tests.services.ledgers import new_ledger

pytestmark = pytest.mark.services

A, B = "aa" * 32, "bb" * 32
SCORES: HoldoutScores = {"challenger": {}, "champion": None}


@pytest.fixture
def dsn(local: LocalPlatform, request: pytest.FixtureRequest) -> str:
    return new_ledger(local, f"trust_{abs(hash(request.node.nodeid))}")


@pytest.fixture
def ledger(dsn: str) -> Ledger:
    return Ledger(dsn)


def train(ledger: Ledger, version: str, sha256: str, promoted: bool = True) -> None:
    """Record a training and the verdict on it."""
    ledger.add_training(f"run-{version}", 0, [], 1, version, {}, sha256)
    with ledger.exclusive() as transaction:
        transaction.add_promotion(f"run-{version}", version, promoted, "because", None, SCORES)
        if promoted:
            transaction.add_move(version, None, "promotion", "because", sha256)


def forget_hashes(dsn: str) -> None:
    """Make all rows look as if an earlier release had written them."""
    with psycopg.connect(dsn) as connection:
        connection.execute("update ledger.trainings set manifest_sha256 = null")
        connection.execute("update ledger.champions set manifest_sha256 = null")


def test_champion_is_a_version_with_its_own_hash_only(ledger: Ledger) -> None:
    train(ledger, "1", A)
    train(ledger, "2", B)
    assert ledger.is_champion("1", A), "an earlier champion may serve again"
    assert ledger.is_champion("2", B)
    for version, sha256 in (("1", B), ("2", A), ("3", A), ("2", "")):
        assert not ledger.is_champion(version, sha256), (version, sha256)


def test_rejected_model_is_trained_but_no_champion(ledger: Ledger) -> None:
    train(ledger, "1", A)
    train(ledger, "2", B, promoted=False)
    assert ledger.is_trained(B)
    assert not ledger.is_champion("2", B)
    assert not ledger.is_trained("cc" * 32)


def test_last_champion_is_that_of_the_last_promotion_or_rollback(ledger: Ledger) -> None:
    assert ledger.last_champion() is None
    train(ledger, "1", A)
    train(ledger, "2", B)
    train(ledger, "3", "cc" * 32, promoted=False)
    assert ledger.last_champion() == ("2", "run-2")
    ledger.add_move("1", "2", "rollback", "because", A)
    assert ledger.last_champion() == ("1", "run-1")
    ledger.add_training("run-4", 0, [], 1, "4", {}, A)  # the same data gives the same bundle
    assert ledger.last_champion() == ("1", "run-1")


def test_failed_promotion_leaves_neither_its_row_nor_its_hash(ledger: Ledger) -> None:
    ledger.add_training("run-1", 0, [], 1, "1", {}, A)
    with suppress(ZeroDivisionError), ledger.exclusive() as transaction:
        transaction.add_promotion("run-1", "1", True, "because", None, SCORES)
        transaction.add_move("1", None, "promotion", "because", A)
        raise ZeroDivisionError
    assert (ledger.promotion("run-1"), ledger.champions(), ledger.is_champion("1", A)) == (None, [], False)


def test_last_champion_of_an_earlier_release_is_accepted_until_its_hash_is_recorded(dsn: str, ledger: Ledger) -> None:
    for version, sha256 in (("1", A), ("2", B)):
        train(ledger, version, sha256)
    forget_hashes(dsn)
    assert ledger.is_champion("2", B)
    assert not ledger.is_champion("1", A), "only the last champion may serve without a hash"
    assert sorted(ledger.trainings_without_hash()) == ["run-1", "run-2"]
    ledger.record_hashes({"run-1": A, "run-2": B})
    assert (ledger.is_champion("1", A), ledger.is_champion("2", B)) == (True, True)
    assert not ledger.is_champion("2", A)
    assert ledger.trainings_without_hash() == []
    ledger.record_hashes({"run-2": A})
    assert not ledger.is_champion("2", A), "a recorded hash was changed"


def test_champion_without_a_bundle_in_mlflow_stays_closed(dsn: str, ledger: Ledger) -> None:
    train(ledger, "1", A)
    forget_hashes(dsn)
    ledger.record_hashes({"run-1": ""})
    for sha256 in (A, ""):
        assert not ledger.is_champion("1", sha256)
        assert not ledger.is_trained(sha256)
    assert ledger.trainings_without_hash() == []


def test_schema_of_the_last_release_accepts_its_last_champion_only(dsn: str, ledger: Ledger) -> None:
    """Predictors of this release start before the first stage has migrated the schema."""
    for version, sha256 in (("1", A), ("2", B)):
        train(ledger, version, sha256)
    with psycopg.connect(dsn) as connection:
        connection.execute("alter table ledger.trainings drop column manifest_sha256")
        connection.execute("alter table ledger.champions drop column manifest_sha256")
    assert (ledger.is_champion("2", B), ledger.is_champion("1", A), ledger.is_trained(B)) == (True, False, False)


def test_empty_database_trusts_nothing(local: LocalPlatform) -> None:
    with pytest.raises(MissingTableError):
        Ledger(local.database("trust-empty")).is_champion("1", A)
