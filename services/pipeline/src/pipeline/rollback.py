"""Let the alias name an earlier version again, and write down why."""

from __future__ import annotations

from typing import Any

from core.errors import RegistryError
from pipeline.context import Context
from pipeline.outcome import SkipRun
from pipeline.tracking import Tracking


def run(context: Context, to: str, reason: str) -> dict[str, Any]:
    """Make a registered version the champion, whatever the gate said of it.

    As in a promotion the alias moves last, within a transaction of the ledger that nobody else is in.

    Raises:
        SkipRun: it is the champion already.
        RegistryError: there is no such version, or MLflow failed; the alias is as it was.
        BundleError: the version's bundle is damaged or of other features: it could not serve.
    """
    if not reason.strip():
        raise RegistryError("a rollback needs a reason, for whoever reads the history: --reason '...'")
    tracking = Tracking(context.settings, context.registry)
    target = tracking.version(to)
    tracking.bundle(str(target.run_id)).check_golden()
    with context.ledger.alone() as ledger:
        before = context.registry.champion(context.settings.model_name, context.settings.model_alias)
        if before and before.version == to:
            raise SkipRun(f"version {to} is the champion already", version=to)
        tracking.tag_version(to, rolled_back_to=reason)
        ledger.add_move(to, before.version if before else None, "rollback", reason)
        tracking.set_alias(to)
    left = f" instead of version {before.version}" if before else ""
    return {"version": to, "reason": reason, "summary": f"version {to} is the champion{left}: {reason}"}
