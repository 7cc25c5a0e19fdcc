"""The context of a stage: its settings, and its clients of object store, ledger and registry.

A component that is away does not fail a stage at once: the first use of its client waits until it answers.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from core.ledger import Ledger
from core.stores import layout
from core.stores.objects import Store, open_store
from core.stores.registry import ModelVersion, RegistryClient
from core.transport import http_transport
from pipeline.patience import Result, patiently
from pipeline.settings import PipelineSettings


@dataclass(frozen=True)
class Context:
    """Settings and clients. A client connects when it is first used, and waits `component_wait_seconds` for its server.

    Without time to wait, the first call that needs a server reports that it is away.

    Raises:
        StorageError, LedgerAwayError, RegistryError: the server is still away after that time.
    """

    settings: PipelineSettings

    def patiently(self, what: str, action: Callable[[], Result]) -> Result:
        """Do an idempotent action; while a component is away, do it again for up to `component_wait_seconds`."""
        return patiently(what, self.settings.component_wait_seconds, action)

    @cached_property
    def store(self) -> Store:
        """The object store with raw, quarantined and clean rows."""
        settings = self.settings
        store = open_store(settings.data_uri, settings.s3_endpoint, settings.s3_access_key, settings.s3_secret_key)
        if settings.component_wait_seconds:
            self.patiently("read the object store", lambda: store.exists(layout.PROBE))
        return store

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger. Its schema is brought up to date first.

        Raises:
            OwnershipError: it belongs to another platform.
        """
        ledger = Ledger(self.settings.ledger_dsn, run=self.dag_run, actor=self.actor)
        self.patiently("connect to the ledger", lambda: ledger.open_for(self.settings.platform_name))
        return ledger

    @property
    def registry(self) -> RegistryClient:
        """The model registry, through the same client as the predictor's."""
        if self.settings.component_wait_seconds:
            _ = self.champion  # waits with a question that most stages need answered
            _ = self._artifacts
        return self._registry

    @cached_property
    def _artifacts(self) -> None:
        """Waits for the object store behind MLflow: MLflow's client alone repeats each request for minutes."""
        self.patiently("list artifacts of MLflow", self._registry.check_artifacts)

    @cached_property
    def champion(self) -> ModelVersion | None:
        """The champion when this stage first used MLflow; None if there is none.

        A stage that must know the champion of the moment, because it moves the alias, asks `registry` again.
        """
        name, alias = self.settings.model_name, self.settings.model_alias
        return self.patiently("ask MLflow for the champion", lambda: self._registry.version_by_alias(name, alias))

    def ask_again(self) -> None:
        """Forget the champion, which has changed."""
        self.__dict__.pop("champion", None)

    @cached_property
    def _registry(self) -> RegistryClient:
        # The network of a new pod may be closed for some seconds.
        transport = http_transport(retries=5)
        settings = self.settings
        return RegistryClient(settings.mlflow_tracking_uri, settings.mlflow_login, timeout=60, transport=transport)

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

    @property
    def actor(self) -> str:
        """The user that started this stage or command, for the ledger; outside a pod the user of this machine.

        Airflow sets ACTOR to the user who started the DAG run, and `ci.deploy.commands` to the user who ran it.
        """
        return os.environ.get("ACTOR") or local_user()


def local_user() -> str:
    """Name of the user of this process on this machine; its number if it has no name, as in a pod."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"user {os.getuid()}"
