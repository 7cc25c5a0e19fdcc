"""Registers bundles with a real MLflow, promotes them one after another, and waits until predictors refuse them."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import mlflow
from mlflow import MlflowClient

from ci.common.console import say, wait_for
from core.metrics import MODEL_REFUSED
from core.stores.registry import BUNDLE_PATH, MANIFEST_TAG, RegistryClient
from tests.kit.damaged_bundles import Damage, Damaged, damaged

EXPERIMENT = "damaged-bundles"


class Registrar:
    """Registers bundles as versions of a model, moves its alias, and can remove its own versions again.

    `trust` gets the version and the sha256 of each registered bundle, to record them in the ledger. Without it,
    predictors refuse the bundles of this registrar. `login` is a user of the server and its password.
    """

    def __init__(
        self,
        mlflow_url: str,
        name: str,
        alias: str,
        trust: Callable[[str, str], None] = lambda *_: None,
        login: tuple[str, str] = ("", ""),
    ) -> None:
        self._trust = trust
        if login[0]:  # MLflow's client reads them at each request
            os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"] = login
        mlflow.set_tracking_uri(mlflow_url)  # the client uploads artifacts to this server
        self._mlflow = MlflowClient(mlflow_url)
        self._registry = RegistryClient(mlflow_url, login, timeout=20)
        self.name, self.alias = name, alias
        self._versions: list[str] = []

    def register(self, bundle: Damaged) -> str:
        """Log a bundle and register it with its tag, without any check. Returns the version."""
        experiment = self._mlflow.get_experiment_by_name(EXPERIMENT)
        experiment_id = experiment.experiment_id if experiment else self._mlflow.create_experiment(EXPERIMENT)
        run = self._mlflow.create_run(experiment_id, run_name=bundle.name)
        self._mlflow.log_artifacts(run.info.run_id, str(bundle.folder), f"model/{BUNDLE_PATH}")
        self._mlflow.set_terminated(run.info.run_id)
        tags = {MANIFEST_TAG: bundle.manifest_sha256} if bundle.manifest_sha256 else {}
        source = f"{run.info.artifact_uri}/model"
        created = self._mlflow.create_model_version(self.name, source, run.info.run_id, tags=tags)
        self._versions.append(str(created.version))
        self._trust(self._versions[-1], bundle.manifest_sha256)
        return self._versions[-1]

    def champion(self, folder: Path) -> str:
        """Download the version that has the alias to `folder`. Returns the version."""
        version = self._registry.version_by_alias(self.name, self.alias)
        assert version, f"no version has the alias {self.alias}"
        self._registry.download(version, folder)
        return version.version

    def promote(self, version: str) -> None:
        """Move the alias."""
        self._mlflow.set_registered_model_alias(self.name, self.alias, version)

    def withdraw(self) -> None:
        """Delete the alias."""
        self._mlflow.delete_registered_model_alias(self.name, self.alias)

    def remove(self) -> None:
        """Delete the versions that this registrar registered."""
        for version in self._versions:
            self._mlflow.delete_model_version(self.name, version)
        self._versions.clear()


@dataclass(frozen=True)
class Refused:
    """A damage, and the reason that a predictor gave for refusing it."""

    name: str
    version: str
    reason: str


def refusal(url: str, version: str) -> str | None:
    """Why the predictor at `url` refused a version; None if it has not refused it."""
    model = httpx.get(f"{url}/model", timeout=10).json()
    return next((str(each["reason"]) for each in model["refused"] if each["version"] == version), None)


def counted(url: str, version: str) -> float:
    """How often a version was refused, by the predictor's metric."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    match = re.search(rf'^{MODEL_REFUSED}{{version="{version}"}} (\S+)$', text, re.MULTILINE)
    return float(match[1]) if match else 0


def confirmed(url: str, version: str) -> bool:
    """True if the predictor serves the version and the registry confirms it."""
    model = httpx.get(f"{url}/model", timeout=10).json()
    return bool(model["version"] == version and not model["stale"])


@contextmanager
def registered(registrar: Registrar, damages: Sequence[Damage], folder: Path) -> Iterator[dict[str, str]]:
    """Registers a copy of the champion's bundle with each damage: name to version. Deletes them at the end."""
    good = folder / "champion"
    champion = registrar.champion(good)
    versions = {}
    try:
        for at, damage in enumerate(damages):
            bad = damaged(damage, good, folder / str(at))
            versions[damage.name] = registrar.register(bad)
            shutil.rmtree(bad.folder)
        say(f"{len(versions)} damaged bundles registered")
        yield versions
    finally:
        registrar.promote(champion)
        registrar.remove()


def promote_each(registrar: Registrar, versions: dict[str, str], urls: Sequence[str], seconds: float) -> list[Refused]:
    """Promote one version after another, and wait each time until every predictor at `urls` has refused it.

    Raises:
        Failure: a predictor did not refuse a version within `seconds`.
    """
    refusals = []
    for name, version in versions.items():
        began = time.monotonic()
        registrar.promote(version)
        for url in urls:
            wait_for(f"the refusal of {name!r}", partial(refusal, url, version), seconds, every=0.5)
        reason = str(refusal(urls[0], version))
        say(f"{name}: refused after {time.monotonic() - began:.1f} s: {reason[:100]}")
        refusals.append(Refused(name, version, reason))
        for url in urls:
            assert counted(url, version) == 1, f"{url}: the metric must count {name!r} exactly once"
    return refusals
