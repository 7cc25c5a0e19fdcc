"""One tree of errors. A message says what is wrong, with which thing, and what to do."""

from __future__ import annotations


class HouseError(Exception):
    """Anything that this project reports to a person as one sentence."""


class SettingsError(HouseError):
    """The environment lacks a setting, or holds one that cannot be right."""


class DataError(HouseError):
    """Listings, or the service that hands them out, are not what the contract says."""


class StorageError(HouseError):
    """The object store did not take or give an object."""


class LedgerError(HouseError):
    """The ledger's database did not do what was asked."""


class RegistryError(HouseError):
    """MLflow did not answer, or answered something unusable."""


class BundleError(HouseError):
    """A model bundle is damaged, incomplete, or made for other features."""
