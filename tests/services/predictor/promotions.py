"""Bundles registered with a real MLflow and promoted one after another, and what each predictor makes of them."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx
import mlflow
from mlflow import MlflowClient

from ci.console import say, wait_for
from core.metrics import MODEL_REFUSED
from core.registry import BUNDLE_PATH, MANIFEST_TAG, RegistryClient

from .damaged import Damage, Damaged, damaged

EXPERIMENT = "damaged-bundles"


class Registrar:
    """Registers bundles as versions of a model, and moves its alias; what it registered it can remove."""

    def __init__(self, mlflow_url: str, name: str, alias: str) -> None:
        mlflow.set_tracking_uri(mlflow_url)  # where artifacts are uploaded to
        self._mlflow = MlflowClient(mlflow_url)
        self._registry = RegistryClient(mlflow_url, timeout=20)
        self.name, self.alias = name, alias
        self._made: list[str] = []

    def register(self, bundle: Damaged) -> str:
        """Log a bundle and register it with its tag, without looking at it; returns the version."""
        experiment = self._mlflow.get_experiment_by_name(EXPERIMENT)
        identity = experiment.experiment_id if experiment else self._mlflow.create_experiment(EXPERIMENT)
        run = self._mlflow.create_run(identity, run_name=bundle.name)
        self._mlflow.log_artifacts(run.info.run_id, str(bundle.folder), f"model/{BUNDLE_PATH}")
        self._mlflow.set_terminated(run.info.run_id)
        tags = {MANIFEST_TAG: bundle.manifest_sha256} if bundle.manifest_sha256 else {}
        source = f"{run.info.artifact_uri}/model"
        made = self._mlflow.create_model_version(self.name, source, run.info.run_id, tags=tags)
        self._made.append(str(made.version))
        return self._made[-1]

    def champion(self, folder: Path) -> str:
        """The version that the alias names; its bundle is written to `folder`."""
        found = self._registry.champion(self.name, self.alias)
        assert found, f"no version has the alias {self.alias}"
        self._registry.download(found, folder)
        return found.version

    def promote(self, version: str) -> None:
        """Move the alias."""
        self._mlflow.set_registered_model_alias(self.name, self.alias, version)

    def withdraw(self) -> None:
        """Take the alias away."""
        self._mlflow.delete_registered_model_alias(self.name, self.alias)

    def remove(self) -> None:
        """Take the versions away again."""
        for version in self._made:
            self._mlflow.delete_model_version(self.name, version)
        self._made.clear()


@dataclass(frozen=True)
class Refused:
    """A damage and what a predictor said to it."""

    name: str
    version: str
    reason: str


def refusal(url: str, version: str) -> str | None:
    """Why the predictor at `url` refused a version; None if it did not (yet)."""
    told = httpx.get(f"{url}/model", timeout=10).json()
    return next((str(one["reason"]) for one in told["refused"] if one["version"] == version), None)


def counted(url: str, version: str) -> float:
    """How often the predictor's metric says that a version was refused."""
    text = httpx.get(f"{url}/metrics", timeout=10).text
    found = re.search(rf'^{MODEL_REFUSED}{{version="{version}"}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0


def confirmed(url: str, version: str) -> bool:
    """True if the predictor answers with the version and the registry names it."""
    told = httpx.get(f"{url}/model", timeout=10).json()
    return bool(told["version"] == version and not told["stale"])


@contextmanager
def registered(registrar: Registrar, damages: Sequence[Damage], folder: Path) -> Iterator[dict[str, str]]:
    """The champion's bundle, damaged in each way and registered: name to version; gone at the end."""
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
    """Promote one version after another, each until every predictor at `urls` has refused it.

    Raises:
        Failure: one did not say within `seconds` that it refused a version.
    """
    told = []
    for name, version in versions.items():
        began = time.monotonic()
        registrar.promote(version)
        for url in urls:
            wait_for(f"the refusal of {name!r}", partial(refusal, url, version), seconds, every=0.5)
        reason = str(refusal(urls[0], version))
        say(f"{name}: refused after {time.monotonic() - began:.1f} s: {reason[:100]}")
        told.append(Refused(name, version, reason))
        for url in urls:
            assert counted(url, version) == 1, f"{url}: the metric does not count {name!r} once"
    return told
