"""Follows the registry's alias and holds the model that answers.

A background thread asks MLflow which version the alias names. A new version is downloaded, compared with the sha256
that the registry holds, tried in a child process, and only then swapped in, by one assignment: a request sees the old
model or the new one, whole. What fails on the way leaves the last good model in place. That model also stays on disk,
so that a restarted container answers even if MLflow is away.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.bundle import MANIFEST, Bundle, load_bundle
from core.errors import BundleError, RegistryError
from core.registry import ModelVersion, RegistryClient
from predictor import metrics
from predictor.trial import run_trial

MANIFEST_TAG = "manifest_sha256"  # of a registered version, set by the pipeline

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """A model that passed every check, and the version that the registry knows it by."""

    version: ModelVersion
    bundle: Bundle
    loaded_at: datetime


@dataclass(frozen=True)
class Refusal:
    """A version that the alias named and that may not serve."""

    version: str
    run_id: str
    reason: str
    refused_at: str


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
    ) -> None:
        self.state = State()
        self.name = name
        self.alias = alias
        self._registry = registry
        self._directory = directory
        self._poll_seconds = poll_seconds
        self._trial = trial
        self._named: ModelVersion | None = None  # by the alias, when it was last seen
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)

    def start(self) -> None:
        """Begin to follow the alias."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; one that waits for the registry is left to end with the process."""
        self._stopped.set()
        self._thread.join(timeout=1)

    def _follow(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self.resume()
        while True:
            self.refresh()
            if self._stopped.wait(self._poll_seconds):
                return

    def refresh(self) -> None:
        """Ask which version the alias names, and take it up if it is another than the one served."""
        before = self.state.problem
        try:
            outcome = self._step()
        except (RegistryError, OSError) as away:
            outcome = "unreachable"
            self._say(problem=f"cannot read the champion from the registry: {away}")
        except Exception as unknown:  # the thread must outlive whatever one step meets
            outcome = "failed"
            log.exception("following the alias failed")
            self._say(problem=f"following the alias failed: {unknown}")
        metrics.model_refresh.labels(outcome).inc()
        if self.state.problem != before and self.state.problem is not None:
            log.warning("not serving the champion: %s", self.state.problem, extra={"outcome": outcome})

    def _step(self) -> str:
        named = self._registry.champion(self.name, self.alias)
        set_again = named is None or self._named is None or _identity(named) != _identity(self._named)
        self._named = named
        if named is None:
            self._say(problem=f"no version of {self.name} has the alias {self.alias}: run the pipeline")
            return "absent"
        if self.state.served is not None and _identity(named) == _identity(self.state.served.version):
            self._say(problem=None)
            return "current"
        refusal = next((known for known in self.state.refused if _is(named, known)), None)
        if refusal is None or set_again:
            refusal = self._take(named)
        if refusal is None:
            return "loaded"
        self._say(problem=f"version {refusal.version} is refused: {refusal.reason}")
        return "refused"

    def _take(self, named: ModelVersion) -> Refusal | None:
        """Download, check and serve a version; a refusal is remembered and returned."""
        directory = Path(tempfile.mkdtemp(prefix=f"{named.version}-", dir=self._directory))
        others = tuple(known for known in self.state.refused if not _is(named, known))
        try:
            self._registry.download(named, directory)
            champion = self._checked(named, directory)
        except BundleError as bad:
            shutil.rmtree(directory, ignore_errors=True)
            refusal = Refusal(named.version, named.run_id, str(bad), datetime.now(UTC).isoformat(timespec="seconds"))
            self._say(refused=(*others, refusal))
            return refusal
        except BaseException:
            shutil.rmtree(directory, ignore_errors=True)
            raise
        self._serve(champion)
        self._say(problem=None, refused=others)
        self._remember(named, directory)
        return None

    def _checked(self, named: ModelVersion, directory: Path) -> Champion:
        """A champion out of a downloaded bundle.

        Raises:
            BundleError: it is not what was registered, or may not serve.
        """
        expected = named.tags.get(MANIFEST_TAG)
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
        metrics.model_info.clear()
        metrics.model_info.labels(version.name, version.version, version.run_id).set(1)
        metrics.model_loaded.set(champion.loaded_at.timestamp())
        log.info("serving %s version %s", version.name, version.version, extra={"run_id": version.run_id})

    def _remember(self, named: ModelVersion, directory: Path) -> None:
        """Note on disk what is served, and remove everything else there."""
        record = self._directory / "served.json"
        draft = record.with_suffix(".tmp")
        draft.write_text(json.dumps({"directory": directory.name, "version": dataclasses.asdict(named)}))
        draft.replace(record)
        for other in self._directory.iterdir():
            if other.is_dir() and other != directory:
                shutil.rmtree(other, ignore_errors=True)

    def resume(self) -> None:
        """Serve what the process before this one served, until the registry says otherwise."""
        record = self._directory / "served.json"
        if not record.is_file():
            return
        try:
            noted = json.loads(record.read_text())
            directory = self._directory / noted["directory"]
            self._serve(self._checked(ModelVersion(**noted["version"]), directory))
        except (BundleError, OSError, ValueError, TypeError, KeyError) as unusable:
            log.warning("the model of the process before cannot be used: %s", unusable)

    def _say(self, **changes: Any) -> None:
        self.state = dataclasses.replace(self.state, **changes)


def _identity(version: ModelVersion) -> tuple[str, ...]:
    """What makes a version the same: its other tags may change at any time."""
    return version.name, version.version, version.run_id, version.tags.get(MANIFEST_TAG, "")


def _is(named: ModelVersion, refusal: Refusal) -> bool:
    return (named.version, named.run_id) == (refusal.version, refusal.run_id)
