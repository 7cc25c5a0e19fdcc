"""An object store belongs to the platform of one ledger. Another platform asks nothing of the data API."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.local.processes import LocalPlatform
from core.errors import OwnershipError
from core.stores import layout
from pipeline import ownership
from pipeline.commands import takeover
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.stages import fetch
from tests.services.ledgers import new_ledger

from .conftest import SETTINGS

SHA256 = "ab" * 32
New = Callable[..., Context]


@pytest.fixture
def new(local: LocalPlatform, tmp_path: Path, request: pytest.FixtureRequest) -> New:
    """Makes the context of a platform with a ledger and a folder store, by their names."""
    test, ledgers = abs(hash(request.node.nodeid)), dict[str, str]()

    def make(name: str = "prod", ledger: str = "a", store: str = "a") -> Context:
        if ledger not in ledgers:
            ledgers[ledger] = new_ledger(local, f"ownership-{test}-{ledger}")
        uri = (tmp_path / store).as_uri()
        return Context(
            SETTINGS.model_copy(update={"platform_name": name, "ledger_dsn": ledgers[ledger], "data_uri": uri})
        )

    return make


def add_batch(context: Context, number: int) -> None:
    """Record a batch and store something under its key, as fetch does."""
    key = layout.raw_key(number, SHA256)
    context.ledger.receive(number, SHA256, 10, key)
    context.store.put(key, b"rows")


def test_new_store_is_claimed_once(new: New) -> None:
    for _ in range(2):
        ownership.check(new())
    assert ownership.owner(new().store) == new().ledger.owner()


def test_store_of_an_earlier_release_is_claimed(new: New) -> None:
    add_batch(new(), 0)
    ownership.check(new())
    assert ownership.owner(new().store) == new().ledger.owner()


def test_lost_store_is_claimed_again(new: New, tmp_path: Path) -> None:
    ownership.check(new())
    add_batch(new(), 0)
    shutil.rmtree(tmp_path / "a")
    ownership.check(new())
    assert ownership.owner(new().store) == new().ledger.owner()


def test_store_with_batches_of_an_unknown_platform_is_refused(new: New) -> None:
    add_batch(new("prod", ledger="a"), 0)
    with pytest.raises(OwnershipError, match=r"has batches of another platform .*takeover --owner unknown"):
        ownership.check(new("test", ledger="b"))


def test_second_platform_is_refused_before_the_cursor_moves(new: New) -> None:
    ownership.check(new("prod", ledger="a"))
    second = new("test", ledger="b")
    with pytest.raises(OwnershipError, match=r"belongs to the platform 'prod' .*takeover --owner prod"):
        fetch.run(second)
    with second.ledger._connect() as connection:
        assert connection.execute("select from ledger.calls").fetchall() == [], "nothing was asked of the data API"


def test_platform_of_the_same_name_with_another_ledger_is_refused(new: New) -> None:
    """Two clusters have the same namespace, or the ledger was lost."""
    ownership.check(new("prod", ledger="a"))
    with pytest.raises(OwnershipError):
        ownership.check(new("prod", ledger="b"))


@pytest.mark.parametrize("ledger", ["a", "b"])
def test_takeover_makes_a_platform_the_owner_of_both(new: New, ledger: str) -> None:
    """Of the other platform's ledger and store, or of its store only."""
    ownership.check(new("prod"))
    if ledger == "a":
        with pytest.raises(OwnershipError):
            _ = new("test").ledger
    takeover.run(new("test", ledger), "prod")
    ownership.check(new("test", ledger))
    with pytest.raises(OwnershipError):
        ownership.check(new("prod"))
    with pytest.raises(SkipRun, match="already"):
        takeover.run(new("test", ledger), "prod")


def test_takeover_needs_the_name_of_the_owner(new: New) -> None:
    ownership.check(new("prod"))
    with pytest.raises(OwnershipError, match=r"belong to \['prod'\], not to 'other'"):
        takeover.run(new("test"), "other")
    assert new("prod").ledger.owner().name == "prod"
