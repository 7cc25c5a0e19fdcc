"""Delete the bundles of old models from MLflow. They are most of what a training stores there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from core.errors import RegistryError
from pipeline.context import Context
from pipeline.tracking import FAILURES, Tracking
from pipeline.trust import record_hashes


def run(context: Context) -> dict[str, Any]:
    """Delete the bundles of models whose verdict is older than `model_retention_days`.

    A version with an alias, the last `kept_champions` champions, and a model without a verdict keep their bundles.
    Runs, registered versions, reports and the ledger stay, so the lineage of a deleted model can still be shown.
    Idempotent: an interrupted deletion is finished by the next one.

    Raises:
        LedgerError: the clock looks wrong. Nothing was deleted.
        RegistryError: MLflow does not answer, or refused a deletion.
    """
    settings, ledger = context.settings, context.ledger
    ledger.check_retention_clock()
    record_hashes(context)  # daily, so that they are recorded after an upgrade even if no pipeline runs
    tracking = Tracking(settings, context.registry)
    today = datetime.now(UTC).date().isoformat()
    sizes: list[int] = []
    for run_id in ledger.expired_models(settings.model_retention_days, settings.kept_champions):
        try:
            with ledger.exclusive():  # no promotion or rollback gives the version an alias meanwhile
                freed = None if tracking.has_alias(run_id) else tracking.delete_bundle(run_id, today)
        except FAILURES as error:
            raise RegistryError(f"the bundle of run {run_id} cannot be deleted from MLflow: {error}") from error
        if freed is not None:
            print(f"the bundle of run {run_id} is deleted: {freed:,} bytes", flush=True)
            sizes.append(freed)
    days, size = settings.model_retention_days, sum(sizes)
    summary = f"{len(sizes)} bundles older than {days} days are deleted: {size:,} bytes"
    return {"bundles": len(sizes), "bytes": size, "summary": summary}
