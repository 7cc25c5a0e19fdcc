"""A ledger belongs to one platform. Another one is refused before it changes anything."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from ci.local.processes import LocalPlatform
from core.errors import LedgerError, OwnershipError
from core.ledger import Ledger, migrations
from tests.services.ledgers import new_ledger


@pytest.fixture
def dsn(local: LocalPlatform, request: pytest.FixtureRequest) -> str:
    """URL of a ledger without an owner."""
    return new_ledger(local, f"owner-{abs(hash(request.node.nodeid))}")


def test_first_platform_owns_the_ledger_and_its_id_never_changes(dsn: str) -> None:
    with pytest.raises(LedgerError, match="no platform has claimed the ledger"):
        Ledger(dsn).owner()
    with ThreadPoolExecutor(4) as together:
        list(together.map(lambda _: Ledger(dsn).open_for("prod"), range(4)))
    owner = Ledger(dsn).owner()
    Ledger(dsn).open_for("prod")
    assert (owner.name, Ledger(dsn).owner()) == ("prod", owner)
    assert Ledger(dsn).take_over("new").id == owner.id


def test_two_ledgers_have_different_ids(local: LocalPlatform, dsn: str) -> None:
    other = new_ledger(local, "owner-of-another-ledger")
    ids = set()
    for each in (dsn, other):
        Ledger(each).open_for("prod")
        ids.add(Ledger(each).owner().id)
    assert len(ids) == 2


def test_other_platform_is_refused_with_the_remedy(dsn: str) -> None:
    Ledger(dsn).open_for("prod")
    with pytest.raises(
        OwnershipError, match=r"belongs to the platform 'prod', and this is the platform 'test'.*takeover"
    ):
        Ledger(dsn).open_for("test")
    assert Ledger(dsn).owner().name == "prod"


def test_other_platform_does_not_migrate_the_ledger(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger(dsn).open_for("prod")
    with psycopg.connect(dsn) as connection:
        connection.execute("update ledger.alembic_version set version_num = '0001'")
    monkeypatch.setattr(migrations, "upgrade", lambda _: pytest.fail("the ledger of another platform was migrated"))
    with pytest.raises(OwnershipError):
        Ledger(dsn).open_for("test")


def test_takeover_changes_the_name_only(dsn: str) -> None:
    Ledger(dsn).open_for("prod")
    before = Ledger(dsn).owner()
    assert Ledger(dsn).take_over("test").id == before.id
    Ledger(dsn).open_for("test")
    with pytest.raises(OwnershipError):
        Ledger(dsn).open_for("prod")
