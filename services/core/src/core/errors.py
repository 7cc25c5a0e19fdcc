"""The exceptions of the platform. A message says what happened, to which thing, and what to do now."""

from __future__ import annotations


class HouseError(Exception):
    """Base class. Programs print its message without a traceback."""


class SettingsError(HouseError):
    """A setting is missing or invalid."""


class DataError(HouseError):
    """Listings, or the data API that sends them, break the contract."""


class StorageError(HouseError):
    """The object store failed to read or write an object."""


class LedgerError(HouseError):
    """The ledger's database failed, or refused an operation."""


class LedgerAwayError(LedgerError):
    """The ledger's database does not answer, or lost the connection: the same call may succeed later."""


class MissingTableError(LedgerError):
    """The ledger does not have the table yet. The first stage of this release that runs creates it."""


class RefusedRowsError(LedgerError):
    """The ledger's database refused values for good: writing the same rows again fails again."""


class OwnershipError(HouseError):
    """The ledger or the object store belongs to another platform."""


class RegistryError(HouseError):
    """MLflow did not answer, or its answer cannot be used."""


class MissingModelError(RegistryError):
    """MLflow answered, and does not have the run or its model any more."""


class BundleError(HouseError):
    """A model bundle is damaged, incomplete, or was trained with other features."""
