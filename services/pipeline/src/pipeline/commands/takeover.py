"""Make this platform the owner of its ledger and its object store."""

from __future__ import annotations

from typing import Any

from core.errors import OwnershipError
from core.ledger import Ledger
from pipeline import ownership
from pipeline.context import Context
from pipeline.outcome import SkipRun


def run(context: Context, owner: str) -> dict[str, Any]:
    """Take ledger and object store over from the platform `owner`, which must no longer run.

    Both platforms would fill the same bucket and use up the same batches, so the owner must be named. Idempotent: after
    an interruption between ledger and object store, repeat the command.

    Raises:
        SkipRun: both belong to this platform already.
        OwnershipError: neither of them belongs to `owner`. Nothing has changed.
    """
    name = context.settings.platform_name
    ledger = Ledger(context.settings.ledger_dsn, run=context.dag_run)  # context.ledger refuses a foreign ledger
    ledger.ensure_schema()
    of_ledger, of_store = ledger.find_owner(), ownership.owner(context.store)
    if of_ledger and of_ledger == of_store and of_ledger.name == name:
        raise SkipRun(f"ledger and object store belong to {name!r} already")
    owners = {platform.name if platform else ownership.UNKNOWN for platform in (of_ledger, of_store)}
    if owner not in owners:
        raise OwnershipError(
            f"ledger and object store belong to {sorted(owners)}, not to {owner!r}: nothing was changed"
        )
    ours = ledger.take_over(name)
    ownership.claim(context.store, ours)
    return {
        "platform": ours.id,
        "name": name,
        "summary": f"ledger and {context.settings.data_uri} belong to the platform {name!r} (id {ours.id})",
    }
