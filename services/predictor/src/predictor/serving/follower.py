"""Follows an alias of the registry and holds the model of the version that has the alias.

A background thread polls MLflow. `BundleLoader` loads and checks a new version, and one assignment swaps it in, so each
request sees either the old or the new model. If a step fails, the last good model stays, and the follower does not try
the same version again, except a version whose hash the ledger does not have yet. A new process starts with the model
that served last; if its disk is empty and MLflow or the ledger is away, it loads the model of another pod.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.errors import BundleError, LedgerError, RegistryError
from core.stores.registry import ModelVersion, RegistryClient
from predictor import metrics
from predictor.background_thread import BackgroundThread
from predictor.serving.cache import MAX_REFUSALS, Refusal
from predictor.serving.loader import BundleLoader, LoadedModel
from predictor.serving.trust import UntrustedError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FollowerState:
    """The current model and what the registry says about it. Immutable: the follower replaces it as a whole."""

    model: LoadedModel | None = None
    problem: str | None = "the registry has not been read yet"
    refused: tuple[Refusal, ...] = ()

    @property
    def stale(self) -> bool:
        """True if there is a model, but the registry does not confirm at present that it has the alias."""
        return self.model is not None and self.problem is not None


@dataclass(frozen=True)
class Role:
    """The purpose of the followed model."""

    name: str
    activity: str  # for the log: "serving the champion"
    remedy: str  # advice for the case that no version has the alias
    keeps_last_good: bool  # keep the last good model if the alias names none or a bad one; resume it after a restart
    metrics: metrics.FollowerMetrics


CHAMPION = Role("champion", "serving", "run the pipeline", True, metrics.champion)
CHALLENGER = Role("challenger", "comparing with", "see `python -m pipeline shadow`", False, metrics.challenger)


class AliasFollower(BackgroundThread):
    """Keeps `state` in step with an alias. `refresh` does one step; `start` runs a thread that repeats it."""

    def __init__(
        self,
        registry: RegistryClient,
        name: str,
        alias: str,
        loader: BundleLoader,
        poll_seconds: float,
        role: Role = CHAMPION,
    ) -> None:
        super().__init__(role.name)
        self.state = FollowerState()
        self.name = name
        self.alias = alias
        self._registry = registry
        self._loader = loader
        self._cache = loader.cache
        self._poll_seconds = poll_seconds
        self._role = role
        self._polled = False
        self._last_named: ModelVersion | None = None  # the version with the alias at the last successful poll
        self._step_lock = threading.Lock()

    def _run(self) -> None:
        self.resume()
        while True:
            self.refresh()
            if self._stopping.wait(self._poll_seconds):
                return

    def refresh(self, again: bool = False) -> str:
        """Read which version has the alias, and load it if it is not the current one.

        Any thread may call this; one call runs at a time. With `again`, a refused version is tried once more.

        Returns:
            The outcome: current, loaded, absent, refused, unreachable or failed. `state` has the details.
        """
        with self._step_lock:
            previous_problem = self.state.problem
            try:
                outcome = self._step(again)
            except (RegistryError, LedgerError) as error:
                outcome = "unreachable"
                source = "registry" if isinstance(error, RegistryError) else "ledger"
                self._set(problem=f"cannot read the {self._role.name} from the {source}: {error}")
                self._load_from_peers()
            except OSError as error:
                outcome = "failed"
                self._set(problem=f"cannot use the folder for bundles (BUNDLE_DIR): {error}")
            except Exception as error:  # the thread must survive every error
                outcome = "failed"
                log.exception("following the alias failed")
                self._set(problem=f"following the alias failed: {error}")
            self._role.metrics.refresh.labels(outcome).inc()
            problem, role = self.state.problem, self._role
            if problem is not None and problem != previous_problem:
                log.warning("not %s the %s: %s", role.activity, role.name, problem, extra={"outcome": outcome})
            return outcome

    def _step(self, again: bool) -> str:
        named = self._registry.version_by_alias(self.name, self.alias)
        alias_moved = self._polled and _identity(named) != _identity(self._last_named)
        self._polled, self._last_named = True, named
        if named is None:
            self._set(problem=f"no version of {self.name} has the alias {self.alias}: {self._role.remedy}")
            self._drop_model()
            return "absent"
        if self.state.model is not None and _identity(named) == _identity(self.state.model.version):
            self._set(problem=None)
            return "current"
        refusal = next((each for each in self.state.refused if _refers_to(each, named)), None)
        if refusal is None or not refusal.final or alias_moved or again:
            refusal = self._switch_to(named, refusal)
        if refusal is None:
            return "loaded"
        self._set(problem=f"version {refusal.version} is refused: {refusal.reason}")
        self._drop_model()
        return "refused"

    def _switch_to(self, named: ModelVersion, earlier: Refusal | None) -> Refusal | None:
        """Load a version and make it current. If it fails a check, store the refusal and return it.

        `earlier` is its refusal by an earlier poll. If the reason is still a missing hash, it is not counted again.
        """
        other_refusals = tuple(each for each in self.state.refused if not _refers_to(each, named))
        try:
            model = self._loader.load(named)
        except BundleError as error:
            final = not isinstance(error, UntrustedError)
            if earlier and not (earlier.final or final):
                return earlier
            at = datetime.now(UTC).isoformat(timespec="seconds")
            refusal = Refusal(named.version, named.run_id, str(error), at, final)
            self._set(refused=(*other_refusals, refusal)[-MAX_REFUSALS:])
            self._role.metrics.refused.labels(named.version).inc()
            self._cache.set_refused(self.state.refused)
            return refusal
        self._set_model(model)
        self._set(problem=None, refused=other_refusals)
        self._cache.add_served(named)
        self._cache.set_refused(other_refusals)
        return None

    def resume(self) -> None:
        """Load the model that served last, in this pod or another one that shares the folder, until MLflow answers."""
        self._set(refused=self._cache.refused())
        for version in self._cache.served() if self._role.keeps_last_good else ():
            model = self._loader.from_cache(version)
            if model:
                self._set_model(model)
                return

    def _load_from_peers(self) -> None:
        """Load the model of another pod if this pod has none."""
        if self.state.model is not None:
            return
        try:
            model = self._loader.from_peers(self._may_serve)
            if model:
                self._set_model(model)
                self._cache.add_served(model.version)
        except Exception:  # the thread must survive every answer of another pod
            log.exception("loading a model from another pod failed")

    def _may_serve(self, version: ModelVersion) -> bool:
        return version.name == self.name and not any(_refers_to(each, version) for each in self.state.refused)

    def served_folder(self) -> tuple[ModelVersion, Path] | None:
        """The current version and the folder of its bundle; None without a model, or if the folder is gone."""
        model = self.state.model
        folder = self._cache.find(model.version) if model else None
        return (model.version, folder) if model and folder else None

    def _set_model(self, model: LoadedModel) -> None:
        self._set(model=model)
        version, gauges = model.version, self._role.metrics
        gauges.info.clear()
        gauges.info.labels(version.name, version.version, version.run_id).set(1)
        gauges.loaded.set(model.loaded_at.timestamp())
        gc.freeze()  # a model is a million objects, and a collection in the middle of an answer would visit them all
        role = self._role
        log.info("%s %s version %s", role.activity, version.name, version.version, extra={"run_id": version.run_id})

    def _drop_model(self) -> None:
        """Drop the model, unless this role keeps the last good one."""
        if not self._role.keeps_last_good:
            self._set(model=None)
            self._role.metrics.info.clear()

    def _set(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)


def _identity(version: ModelVersion | None) -> tuple[str, ...] | None:
    """The fields that identify a version. Its other tags may change at any time."""
    return None if version is None else (version.name, version.version, version.run_id, version.manifest_sha256)


def _refers_to(refusal: Refusal, version: ModelVersion) -> bool:
    return (refusal.version, refusal.run_id) == (version.version, version.run_id)
