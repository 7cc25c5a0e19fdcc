"""Compares a version with the hashes in the ledger. MLflow's tags alone do not make a bundle ours.

The ledger is asked before each load of a version that MLflow names, also if the bundle is in the disk cache. It is not
asked for the model that served last (`AliasFollower.resume`) or for the model of another pod: both passed this check
before, and they must serve while the database is down.
"""

from __future__ import annotations

from collections.abc import Callable

from core.errors import BundleError
from core.ledger import Ledger
from core.stores.registry import ModelVersion

TIMEOUT_SECONDS = 3

# Raises UntrustedError for a version that may not serve, and LedgerError if the ledger does not answer.
TrustCheck = Callable[[ModelVersion], None]


class UntrustedError(BundleError):
    """The ledger does not have the version's hash. It may have it later, so the version is checked again."""


def champion_check(dsn: str) -> TrustCheck:
    """Passes versions that the pipeline made the champion, in a promotion or a rollback, with their hash."""
    ledger = _ledger(dsn)

    def check(version: ModelVersion) -> None:
        if not ledger.is_champion(version.version, version.manifest_sha256):
            raise UntrustedError(
                f"the ledger has no promotion or rollback to version {version.version} with {_hash(version)}: use "
                "`python -m pipeline rollback` to change the champion, and find out who changed MLflow"
            )

    return check


def trained_check(dsn: str) -> TrustCheck:
    """Passes bundles that the pipeline trained, whatever the verdict on them was."""
    ledger = _ledger(dsn)

    def check(version: ModelVersion) -> None:
        if not ledger.is_trained(version.manifest_sha256):
            raise UntrustedError(f"the ledger has no training of a bundle with {_hash(version)}: find out who made it")

    return check


def _ledger(dsn: str) -> Ledger:
    return Ledger(dsn, connect_timeout=TIMEOUT_SECONDS, statement_timeout=TIMEOUT_SECONDS)


def _hash(version: ModelVersion) -> str:
    return f"sha256 {version.manifest_sha256[:12] or '(no tag)'}"
