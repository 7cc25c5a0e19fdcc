"""Gives MLflow its champion back, if somebody deleted the alias, the version or the registered model.

The ledger knows which training served last, and its bundle is an artifact of MLflow that does not depend on the
registry. Without this, the next challenger would win without a comparison, and new predictors would find no model.
"""

from __future__ import annotations

from pipeline.context import Context
from pipeline.evaluation.verdict import origin
from pipeline.tracking import Tracking
from pipeline.trust import checked_bundle


def restore(context: Context) -> str | None:
    """Make the last champion of the ledger the champion of MLflow again, if MLflow has none.

    As in a promotion, the alias moves last, within an exclusive transaction of the ledger.

    Returns:
        a sentence that says so; None if MLflow has a champion, or there never was one.

    Raises:
        MissingModelError, BundleError: its model is lost, too, or cannot serve.
        RegistryError: MLflow failed.
    """
    last = None if context.champion else context.ledger.last_champion()
    if last is None:
        return None
    version, run_id = last
    tracking = Tracking(context.settings, context.registry)
    bundle = checked_bundle(context, tracking, run_id)
    bundle.check_golden()
    tags = origin(tracking, run_id)
    name, alias = context.settings.model_name, context.settings.model_alias
    reason = f"MLflow had lost the alias {alias} of version {version}"
    with context.ledger.exclusive() as ledger:
        restored = None
        if context.registry.version_by_alias(name, alias) is None:  # else a rollback was faster
            restored = tracking.register(run_id, tags)
            ledger.add_move(restored, None, "rollback", reason, bundle.manifest_sha256)
            tracking.set_alias(restored)
    context.ask_again()
    return restored and f"version {restored} is the champion again, because {reason}"
