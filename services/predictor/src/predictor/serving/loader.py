"""Loads a model version from the disk cache, the registry or another pod, and checks it before it is used.

A version that the registry names must have a hash that the ledger has (`trust`). Every source gets the same further
checks: the manifest must have the sha256 of the version's tag, and the bundle must pass the loading test in a child
process.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from core.errors import BundleError
from core.model.bundle import MANIFEST, Bundle, load_bundle
from core.stores.registry import MANIFEST_TAG, ModelVersion, RegistryClient
from predictor.serving.cache import BundleCache
from predictor.serving.loading_test import run_loading_test
from predictor.serving.peers import PeerError, Peers
from predictor.serving.trust import TrustCheck

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory that passed every check, and its version in the registry."""

    version: ModelVersion
    bundle: Bundle
    loaded_at: datetime


class BundleLoader:
    """Loads and checks bundles. Downloads are kept in `cache`."""

    def __init__(
        self,
        registry: RegistryClient,
        directory: Path,
        trust: TrustCheck,
        test: Callable[[Path], None] = run_loading_test,
        max_bundle_bytes: int | None = None,
        peers: Peers | None = None,
    ) -> None:
        self.cache = BundleCache(directory)
        self._registry = registry
        self._trust = trust
        self._test = test
        self._max_bundle_bytes = max_bundle_bytes
        self._peers = peers

    def load(self, version: ModelVersion) -> LoadedModel:
        """A version from the disk cache, or from the registry if the cache does not have it intact.

        Raises:
            BundleError: the bundle fails a check.
            RegistryError, OSError: the bundle could not be downloaded.
            LedgerError: the ledger does not answer, so nothing was loaded.
        """
        self._trust(version)
        return self.from_cache(version) or self._from_registry(version)

    def from_cache(self, version: ModelVersion) -> LoadedModel | None:
        """A version from the disk cache; None if the cache does not have it, or has a damaged copy."""
        directory = self.cache.find(version)
        if directory is None:
            return None
        try:
            return self._checked(version, directory)
        except (BundleError, OSError) as error:  # not a refusal: only a fresh download decides that a version is bad
            log.warning("the copy of version %s on disk cannot be used: %s", version.version, error)
            return None

    def _from_registry(self, version: ModelVersion) -> LoadedModel:
        with self.cache.draft() as directory:
            self._registry.download(version, directory, self._max_bundle_bytes)
            model = self._checked(version, directory)
            self.cache.keep(version, directory)
            return model

    def from_peers(self, accept: Callable[[ModelVersion], bool]) -> LoadedModel | None:
        """The first model of another pod that `accept` allows and that passes every check; None without one."""
        if self._peers is None:
            return None
        for url, version, names in self._peers.served():
            if accept(version):
                model = self._from_peer(self._peers, url, version, names)
                if model:
                    return model
        return None

    def _from_peer(self, peers: Peers, url: str, version: ModelVersion, names: list[str]) -> LoadedModel | None:
        try:
            with self.cache.draft() as directory:
                peers.fetch(url, names, directory)
                model = self._checked(version, directory)
                self.cache.keep(version, directory)
        except (PeerError, BundleError) as error:
            log.warning("version %s from %s cannot be used: %s", version.version, url, error)
            return None
        log.info("loaded version %s from %s", version.version, url)
        return model

    def _checked(self, version: ModelVersion, directory: Path) -> LoadedModel:
        """The model in `directory`, after every check.

        Raises:
            BundleError: the bundle is not the registered one, or fails the loading test.
        """
        expected = version.manifest_sha256
        if not expected:
            raise BundleError(
                f"the version was registered without the tag {MANIFEST_TAG}: register it through the pipeline"
            )
        manifest = directory / MANIFEST
        actual = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else "nothing"
        if actual != expected:
            raise BundleError(
                f"the manifest has sha256 {actual[:12]}, but the registry says {expected[:12]}: train again"
            )
        self._test(directory)
        return LoadedModel(version, load_bundle(directory), datetime.now(UTC))
