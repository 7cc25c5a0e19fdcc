"""What a stage works with: its settings, and the outside systems behind one module each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property

import httpx

from core.ledger import Ledger
from core.registry import RegistryClient
from core.storage import Store, open_store
from pipeline.settings import PipelineSettings


@dataclass(frozen=True)
class Context:
    """Opens each system when it is first used."""

    settings: PipelineSettings

    @cached_property
    def store(self) -> Store:
        """Data: raw, quarantined and clean rows."""
        known = self.settings
        return open_store(known.data_uri, known.s3_endpoint, known.s3_access_key, known.s3_secret_key)

    @cached_property
    def ledger(self) -> Ledger:
        """The audit trail, its schema present."""
        ledger = Ledger(self.settings.ledger_dsn, run=self.dag_run)
        ledger.ensure_schema()
        return ledger

    @cached_property
    def registry(self) -> RegistryClient:
        """Registered versions, as the predictor sees them."""
        # a new pod's way to other pods can be closed for seconds
        patient = httpx.HTTPTransport(retries=5)
        return RegistryClient(self.settings.mlflow_tracking_uri, timeout=60, transport=patient)

    @property
    def code_version(self) -> str:
        """Version of the code: the image's tag in the cluster."""
        return os.environ.get("CODE_VERSION", "development")

    @property
    def origin(self) -> dict[str, str]:
        """Commit and digest of the image, for people; `code_version` alone decides what was trained before."""
        known = {"commit": os.environ.get("COMMIT"), "image_digest": os.environ.get("IMAGE_DIGEST")}
        return {name: text for name, text in known.items() if text}

    @property
    def dag_run(self) -> str:
        """Id of the DAG run that this stage belongs to."""
        return os.environ.get("RUN_ID", "by hand")
