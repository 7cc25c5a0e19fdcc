"""The owner of the object store: a copy of the ledger's id, so that two platforms never fill one bucket by mistake."""

from __future__ import annotations

import json

from core.errors import OwnershipError
from core.ledger import Ledger, Platform
from core.stores import layout
from core.stores.objects import Store
from pipeline.context import Context

UNKNOWN = "unknown"  # name of the owner of a store that is not empty and has no owner


def check(context: Context) -> None:
    """Check that the object store belongs to the platform of the ledger. Idempotent.

    Once per run is enough: only `takeover` changes an owner, and the former owner must no longer run then. If two
    platforms claim a new store at the same time, the last claim stands, and the next run of the other is refused.

    A store without an owner is claimed if all its raw batches are in the ledger: it is new, its content was lost, or an
    earlier release filled it. A restore of ledger and store brings back two ids that agree.

    Raises:
        OwnershipError: it belongs to another platform, or has batches that the ledger does not know.
        StorageError, LedgerAwayError: the object store or the ledger is away.
    """
    ours, theirs, store = context.ledger.owner(), owner(context.store), context.store
    if theirs is None:
        if foreign := _foreign_batches(store, context.ledger):
            raise OwnershipError(
                f"{context.settings.data_uri} has batches of another platform ({len(foreign)} objects such as "
                f"{foreign[0]}) that the ledger of {ours.name!r} does not know. {_remedy(UNKNOWN)}"
            )
        claim(store, ours)
    elif theirs.id != ours.id:
        raise OwnershipError(
            f"{context.settings.data_uri} belongs to the platform {theirs.name!r} with the ledger {theirs.id}, and the "
            f"ledger of this platform ({ours.name!r}) is {ours.id}. {_remedy(theirs.name)}"
        )
    elif theirs != ours:  # another platform took the ledger over
        claim(store, ours)


def owner(store: Store) -> Platform | None:
    """The platform that owns the object store; None if no platform has claimed it."""
    if not store.exists(layout.PLATFORM):
        return None
    content = json.loads(store.get(layout.PLATFORM))
    return Platform(str(content["id"]), str(content["name"]))


def claim(store: Store, platform: Platform) -> None:
    """Make a platform the owner of the object store."""
    store.put(layout.PLATFORM, json.dumps({"id": platform.id, "name": platform.name}).encode())


def _foreign_batches(store: Store, ledger: Ledger) -> list[str]:
    """Keys of raw batches that the ledger does not know. It records a batch before the batch is stored."""
    stored = store.keys(layout.RAW)
    return sorted(set(stored) - ledger.raw_keys()) if stored else []


def _remedy(name: str) -> str:
    return (
        "Nothing was asked of the data API. Give this platform a bucket of its own (chart: "
        "airflow.pipeline.config.dataUri). If it replaces the other platform, which no longer runs, or if its ledger "
        f"was lost: python -m pipeline takeover --owner {name}"
    )
