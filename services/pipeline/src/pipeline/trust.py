"""Compares bundles in MLflow with the hashes in the ledger. Records the hashes of an earlier release once."""

from __future__ import annotations

import tempfile
from pathlib import Path

from core.errors import BundleError
from core.model.bundle import Bundle, load_bundle
from core.stores.registry import ModelVersion
from pipeline.context import Context
from pipeline.tracking import Tracking


def checked_bundle(context: Context, tracking: Tracking, run_id: str) -> Bundle:
    """The bundle of a training, which must be the one that the training wrote.

    Raises:
        RegistryError: as in `Tracking.bundle`.
        BundleError: the bundle is damaged or has other features, MLflow has another one, or this platform did not
            train it.
    """
    record_hashes(context)
    training = context.ledger.training(run_id)
    if training is None:
        raise BundleError(f"the ledger has no training of MLflow run {run_id}: only models of this pipeline can serve")
    bundle = tracking.bundle(run_id)
    recorded = training["manifest_sha256"] or "nothing"
    if bundle.manifest_sha256 != recorded:
        raise BundleError(
            f"the bundle of run {run_id} in MLflow has sha256 {bundle.manifest_sha256[:12]}, but the ledger has "
            f"{recorded[:12]}: somebody replaced it after the training. Restore MLflow's objects from a backup, or "
            "train again"
        )
    return bundle


def champion_bundle(context: Context, champion: ModelVersion) -> Bundle:
    """The bundle of the version that has the champion's alias, as predictors load it.

    Raises:
        RegistryError: MLflow does not answer.
        BundleError: predictors refuse it: it is damaged, has other features, or was never promoted or rolled back to.
    """
    with tempfile.TemporaryDirectory() as folder:
        context.registry.download(champion, Path(folder))
        bundle = load_bundle(Path(folder))
    if not context.ledger.is_champion(champion.version, bundle.manifest_sha256):
        raise BundleError(
            f"the ledger has no promotion or rollback to version {champion.version} with sha256 "
            f"{bundle.manifest_sha256[:12]}"
        )
    return bundle


def record_hashes(context: Context) -> None:
    """Record the hashes of trainings and champions of an earlier release, as MLflow has them now. Idempotent.

    A release without hashes leaves nothing else to compare with. Later changes in MLflow have no effect.

    Raises:
        RegistryError: MLflow does not answer. Nothing was recorded.
    """
    ledger = context.ledger
    hashes: dict[str, str] = {}
    if runs := ledger.trainings_without_hash():
        tracking = Tracking(context.settings, context.registry)
        hashes = {run_id: tracking.manifest_sha256(run_id) for run_id in runs}
        print(f"{len(hashes)} models of an earlier release: the ledger has the hashes of their bundles now", flush=True)
    ledger.record_hashes(hashes)
