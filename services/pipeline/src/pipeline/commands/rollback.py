"""Make an earlier version the champion again, and record the reason."""

from __future__ import annotations

from core.errors import RegistryError
from pipeline.context import Context
from pipeline.outcome import Outcome, SkipRun
from pipeline.tracking import Tracking
from pipeline.trust import checked_bundle


class RollbackOutcome(Outcome):
    """The version that is the champion now."""

    version: str
    reason: str


def run(context: Context, to: str, reason: str) -> RollbackOutcome:
    """Make a registered version the champion, whatever the verdict of the gate was.

    As in a promotion, the alias moves last, within an exclusive transaction of the ledger.

    Raises:
        SkipRun: the version is the champion already.
        RegistryError: there is no such version, or MLflow failed. The alias has not moved.
        BundleError: the bundle is damaged, has other features, or is not the one that the training wrote. The version
            cannot serve.
    """
    if not reason.strip():
        raise RegistryError("a rollback needs a reason, which the history shows: --reason '...'")
    tracking = Tracking(context.settings, context.registry)
    target = tracking.version(to)
    bundle = checked_bundle(context, tracking, str(target.run_id))
    bundle.check_golden()
    with context.ledger.exclusive() as ledger:
        before = context.registry.version_by_alias(context.settings.model_name, context.settings.model_alias)
        if before and before.version == to:
            raise SkipRun(f"version {to} is the champion already", version=to)
        tracking.tag_version(to, rolled_back_to=reason)
        ledger.add_move(to, before.version if before else None, "rollback", reason, bundle.manifest_sha256)
        tracking.set_alias(to)
    replaced = f" instead of version {before.version}" if before else ""
    return {"version": to, "reason": reason, "summary": f"version {to} is the champion{replaced}: {reason}"}
