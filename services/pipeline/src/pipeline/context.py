"""The context of a stage: its settings, and its clients of object store, ledger and registry."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import httpx

from core.ledger import Ledger
from core.stores.objects import Store, open_store
from core.stores.registry import RegistryClient
from pipeline.settings import PipelineSettings


@dataclass(frozen=True)
class Context:
    """Settings and clients. A client connects when it is first used."""

    settings: PipelineSettings

    @cached_property
    def store(self) -> Store:
        """The object store with raw, quarantined and clean rows."""
        settings = self.settings
        return open_store(settings.data_uri, settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger. Its schema is brought up to date first."""
        ledger = Ledger(self.settings.ledger_dsn, run=self.dag_run)
        ledger.ensure_schema()
        return ledger

    @cached_property
    def registry(self) -> RegistryClient:
        """The model registry, through the same client as the predictor's."""
        # The network of a new pod may be closed for some seconds.
        transport = httpx.HTTPTransport(retries=5)
        return RegistryClient(self.settings.mlflow_tracking_uri, timeout=60, transport=transport)

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
