"""Follows an alias of the registry and holds the model that it names: the one that answers, or one beside it.

A background thread asks MLflow which version the alias names. A new version is downloaded, compared with the sha256
that the registry holds, tried in a child process, and only then swapped in, by one assignment: a request sees the old
model or the new one, whole. What fails on the way leaves the last good model in place, and is not tried again. Models
that served stay on disk, so that a new process answers even if MLflow is away.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.bundle import MANIFEST, Bundle, load_bundle
from core.errors import BundleError, RegistryError
from core.registry import MANIFEST_TAG, ModelVersion, RegistryClient
from predictor import metrics
from predictor.cache import MOST_REFUSED, BundleCache, Refusal
from predictor.trial import run_trial

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """A model that passed every check, and the version that the registry knows it by."""

    version: ModelVersion
    bundle: Bundle
    loaded_at: datetime


@dataclass(frozen=True)
class State:
    """What is served, and how it stands to what the registry names. Never changed, only replaced."""

    served: Champion | None = None
    problem: str | None = "the registry has not been asked yet"
    refused: tuple[Refusal, ...] = ()

    @property
    def stale(self) -> bool:
        """True if a model is served that the registry does not confirm as the champion at present."""
        return self.served is not None and self.problem is not None


@dataclass(frozen=True)
class Role:
    """What the model is for that an alias names."""

    name: str
    works: str  # what it does, for the log
    remedy: str  # where no version has the alias
    stays: bool  # the last good model goes on where the alias names no good one, or is not known yet
    metrics: metrics.Followed


CHAMPION = Role("champion", "serving", "run the pipeline", True, metrics.champion)
CHALLENGER = Role("challenger", "comparing with", "see `python -m pipeline shadow`", False, metrics.challenger)


class ChampionFollower:
    """Keeps `state` in step with the alias; `refresh` is one step, `start` makes a thread of them."""

    def __init__(
        self,
        registry: RegistryClient,
        name: str,
        alias: str,
        directory: Path,
        poll_seconds: float,
        trial: Callable[[Path], None] = run_trial,
        max_bundle_bytes: int | None = None,
        role: Role = CHAMPION,
    ) -> None:
        self.state = State()
        self.name = name
        self.alias = alias
        self._registry = registry
        self._cache = BundleCache(directory)
        self._poll_seconds = poll_seconds
        self._trial = trial
        self._max_bundle_bytes = max_bundle_bytes
        self._role = role
        self._looked = False
        self._named: ModelVersion | None = None  # by the alias, when it was last seen
        self._stepping = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=role.name, daemon=True)

    def start(self) -> None:
        """Begin to follow the alias."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that waits for the registry is left to end with the process."""
        self._stopped.set()
        self._thread.join(timeout=1)

    def _follow(self) -> None:
        self.resume()
        while True:
            self.refresh()
            if self._stopped.wait(self._poll_seconds):
                return

    def refresh(self, again: bool = False) -> str:
        """Ask which version the alias names, and take it up if it is another than the one served.

        Safe to call from any thread: one look at a time. With `again`, a version that was refused is tried anew.

        Returns:
            what came of it: current, loaded, absent, refused, unreachable or failed; `state` says more.
        """
        with self._stepping:
            before = self.state.problem
            try:
                outcome = self._step(again)
            except RegistryError as away:
                outcome = "unreachable"
                self._say(problem=f"cannot read the {self._role.name} from the registry: {away}")
            except OSError as disk:
                outcome = "failed"
                self._say(problem=f"cannot use the folder for bundles (BUNDLE_DIR): {disk}")
            except Exception as unknown:  # the thread must outlive whatever one step meets
                outcome = "failed"
                log.exception("following the alias failed")
                self._say(problem=f"following the alias failed: {unknown}")
            self._role.metrics.refresh.labels(outcome).inc()
            if self.state.problem != before and self.state.problem is not None:
                role = self._role
                log.warning("not %s the %s: %s", role.works, role.name, self.state.problem, extra={"outcome": outcome})
            return outcome

    def _step(self, again: bool) -> str:
        named = self._registry.champion(self.name, self.alias)
        set_anew = self._looked and _identity(named) != _identity(self._named)
        self._looked, self._named = True, named
        if named is None:
            self._say(problem=f"no version of {self.name} has the alias {self.alias}: {self._role.remedy}")
            self._leave()
            return "absent"
        if self.state.served is not None and _identity(named) == _identity(self.state.served.version):
            self._say(problem=None)
            return "current"
        refusal = next((known for known in self.state.refused if _is(named, known)), None)
        if refusal is None or set_anew or again:
            refusal = self._take(named)
        if refusal is None:
            return "loaded"
        self._say(problem=f"version {refusal.version} is refused: {refusal.reason}")
        self._leave()
        return "refused"

    def _take(self, named: ModelVersion) -> Refusal | None:
        """Check and serve a version; a refusal is remembered and returned."""
        others = tuple(known for known in self.state.refused if not _is(named, known))
        try:
            champion = self.load(named)
        except BundleError as bad:
            refusal = Refusal(named.version, named.run_id, str(bad), datetime.now(UTC).isoformat(timespec="seconds"))
            self._say(refused=(*others, refusal)[-MOST_REFUSED:])
            self._role.metrics.refused.labels(named.version).inc()
            self._cache.note_refused(self.state.refused)
            return refusal
        self._serve(champion)
        self._say(problem=None, refused=others)
        self._cache.note_served(named)
        self._cache.note_refused(others)
        return None

    def load(self, named: ModelVersion) -> Champion:
        """A version after every check, from disk or from the registry; whether it serves is another matter.

        Raises:
            BundleError: it may not serve.
            RegistryError, OSError: it could not be fetched.
        """
        return self._cached(named) or self._downloaded(named)

    def _cached(self, named: ModelVersion) -> Champion | None:
        """The version as it lies on disk, if it is there and as good as when it was put there."""
        directory = self._cache.find(named)
        if directory is None:
            return None
        try:
            return self._checked(named, directory)
        except (BundleError, OSError) as unusable:  # only what comes from the registry decides on a version
            log.warning("version %s on disk cannot be used: %s", named.version, unusable)
            return None

    def _downloaded(self, named: ModelVersion) -> Champion:
        """The version as the registry hands it out, which then lies on disk.

        Raises:
            BundleError: it may not serve.
            RegistryError, OSError: it could not be fetched.
        """
        with self._cache.draft() as directory:
            self._registry.download(named, directory, self._max_bundle_bytes)
            champion = self._checked(named, directory)
            self._cache.keep(named, directory)
            return champion

    def _checked(self, named: ModelVersion, directory: Path) -> Champion:
        """A champion out of the files of a bundle.

        Raises:
            BundleError: it is not what was registered, or may not serve.
        """
        expected = named.manifest_sha256
        if not expected:
            raise BundleError(f"it was registered without the tag {MANIFEST_TAG}: register it through the pipeline")
        manifest = directory / MANIFEST
        found = hashlib.sha256(manifest.read_bytes()).hexdigest() if manifest.is_file() else "nothing"
        if found != expected:
            raise BundleError(f"its manifest has sha256 {found[:12]}, the registry says {expected[:12]}: train again")
        self._trial(directory)
        return Champion(named, load_bundle(directory), datetime.now(UTC))

    def _serve(self, champion: Champion) -> None:
        self._say(served=champion)
        version = champion.version
        known = self._role.metrics
        known.info.clear()
        known.info.labels(version.name, version.version, version.run_id).set(1)
        known.loaded.set(champion.loaded_at.timestamp())
        gc.freeze()  # a model is a million objects that the collector would go through in the middle of an answer
        log.info("%s %s version %s", self._role.works, version.name, version.version, extra={"run_id": version.run_id})

    def _leave(self) -> None:
        """The alias names no model that may work: the last good one stays, or goes."""
        if not self._role.stays:
            self._say(served=None)
            self._role.metrics.info.clear()

    def resume(self) -> None:
        """Serve what served last, in this pod or another, until the registry says otherwise."""
        self._say(refused=self._cache.refused())
        for version in self._cache.served() if self._role.stays else ():
            champion = self._cached(version)
            if champion:
                self._serve(champion)
                return

    def _say(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)


def _identity(version: ModelVersion | None) -> tuple[str, ...] | None:
    """What makes a version the same: its other tags may change at any time."""
    return None if version is None else (version.name, version.version, version.run_id, version.manifest_sha256)


def _is(named: ModelVersion, refusal: Refusal) -> bool:
    return (named.version, named.run_id) == (refusal.version, refusal.run_id)
