"""The context of a stage: its settings, and its clients of object store, ledger and registry.

A component that is away does not fail a stage at once: the first use of its client waits until it answers.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import httpx

from core.ledger import Ledger
from core.stores import layout
from core.stores.objects import Store, open_store
from core.stores.registry import RegistryClient
from pipeline.patience import Result, patiently
from pipeline.settings import PipelineSettings


@dataclass(frozen=True)
class Context:
    """Settings and clients. A client connects when it is first used, and waits `component_wait_seconds` for its server.

    Raises:
        StorageError, LedgerAwayError, RegistryError: the server is still away after that time.
    """

    settings: PipelineSettings

    def patiently(self, what: str, action: Callable[[], Result]) -> Result:
        """Do an idempotent action; while a component is away, do it again for up to `component_wait_seconds`."""
        return patiently(what, self.settings.component_wait_seconds, action)

    def _await(self, what: str, ask: Callable[[], object]) -> None:
        """Wait for a server; without time to wait, the first call that needs it reports that it is away."""
        if self.settings.component_wait_seconds:
            self.patiently(what, ask)

    @cached_property
    def store(self) -> Store:
        """The object store with raw, quarantined and clean rows."""
        settings = self.settings
        store = open_store(settings.data_uri, settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key)
        self._await("read the object store", lambda: store.exists(layout.PROBE))
        return store

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger. Its schema is brought up to date first.

        Raises:
            OwnershipError: it belongs to another platform.
        """
        ledger = Ledger(self.settings.ledger_dsn, run=self.dag_run)
        self.patiently("connect to the ledger", lambda: ledger.open_for(self.settings.platform_name))
        return ledger

    @cached_property
    def registry(self) -> RegistryClient:
        """The model registry, through the same client as the predictor's."""
        # The network of a new pod may be closed for some seconds.
        transport = httpx.HTTPTransport(retries=5)
        settings = self.settings
        registry = RegistryClient(settings.mlflow_tracking_uri, timeout=60, transport=transport)
        self._await(
            "ask MLflow for the champion", lambda: registry.version_by_alias(settings.model_name, settings.model_alias)
        )
        return registry

    @property
    def code_version(self) -> str:
        """Version of the code; in a cluster the tag of the image."""
        return os.environ.get("CODE_VERSION", "development")

    @property
    def origin(self) -> dict[str, str]:
        """Commit and digest of the image, for people. Only `code_version` decides whether a training is repeated."""
        origin = {"commit": os.environ.get("COMMIT"), "image_digest": os.environ.get("IMAGE_DIGEST")}
        return {name: text for name, text in origin.items() if text}

    @property
    def dag_run(self) -> str:
        """Id of the DAG run of this stage; `by hand` outside a DAG run."""
        return os.environ.get("RUN_ID", "by hand")
