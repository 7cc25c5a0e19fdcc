"""Model bundles on disk, for a process that starts while MLflow is away. Pods may share the folder.

    <version>-<sha256>/      a bundle, complete: it appears by one rename, and is looked up by version and manifest
    served.json              the versions that served last, the newest first
    refused-<host>.json      what the processes of one pod refused; another pod tries for itself
    .draft-*/                a download that is not done, or what is left of one

Writers only add and replace by renaming, and the last one wins. A bundle is in memory once it is loaded, so what is
removed here harms nobody who serves; it is removed only if it is none of those that served last and old besides,
because another process may be about to load it.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from core.registry import ModelVersion

KEPT = 3  # versions that served last: what a rollback names, and what an older program can load
OLD_SECONDS = 600
OLD_DRAFT_SECONDS = 86_400  # far longer than a download and a trial take
MOST_REFUSED = 100
_DRAFT = ".draft-"

log = logging.getLogger(__name__)
Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A version that the alias named and that may not serve."""

    version: str
    run_id: str
    reason: str
    refused_at: str


class BundleCache:
    """The folder; it is made when it is first written to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refused = folder / f"refused-{os.uname().nodename}.json"

    def find(self, version: ModelVersion) -> Path | None:
        """The bundle of a version, if it is here; whether it is whole is for the caller to check."""
        directory = self._folder / _name(version)
        return directory if directory.is_dir() else None

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A new folder to download into, gone at the end unless it was kept.

        Raises:
            OSError: the folder cannot be written to.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._folder))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def keep(self, version: ModelVersion, draft: Path) -> None:
        """Give a checked draft its place; one that is there, and was not usable, makes way.

        Raises:
            OSError: the folder cannot be written to.
        """
        place = self._folder / _name(version)
        with self.draft() as away:
            with suppress(FileNotFoundError):
                place.rename(away / place.name)
            try:
                draft.rename(place)
            except OSError as taken:
                if taken.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # else another process was faster
                    raise

    def served(self) -> list[ModelVersion]:
        """The versions that served last, the newest first."""
        return _read(self._folder / "served.json", ModelVersion)

    def note_served(self, version: ModelVersion) -> None:
        """Put a version first among those that served, and remove what nobody needs any more."""
        kept = [version, *(other for other in self.served() if other != version)][:KEPT]
        self._write(self._folder / "served.json", kept)
        self._clean({_name(each) for each in kept})

    def refused(self) -> tuple[Refusal, ...]:
        """What the processes of this pod refused."""
        return tuple(_read(self._refused, Refusal))

    def note_refused(self, refused: tuple[Refusal, ...]) -> None:
        """Remember refusals in place of all before, for the next process of this pod."""
        self._write(self._refused, refused)

    def _write(self, target: Path, records: Any) -> None:
        with self.draft() as draft:
            text = json.dumps([dataclasses.asdict(record) for record in records])
            (draft / target.name).write_text(text)
            (draft / target.name).replace(target)

    def _clean(self, needed: set[str]) -> None:
        for path in self._folder.iterdir():
            draft = path.name.startswith(_DRAFT)
            if path.name.startswith(".") and not draft:
                continue  # not ours: what waits of the prediction log may lie here
            with suppress(FileNotFoundError):  # another process was faster
                if time.time() - path.stat().st_mtime < (OLD_DRAFT_SECONDS if draft else OLD_SECONDS):
                    continue
                if path.is_dir() and path.name not in needed:
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name.startswith("refused-") and path != self._refused:
                    path.unlink()


def _name(version: ModelVersion) -> str:
    """Nothing that the registry holds may lead out of the folder."""
    return re.sub(r"[^0-9A-Za-z-]", "_", f"{version.version}-{version.manifest_sha256[:16]}")


def _read(path: Path, kind: type[Record]) -> list[Record]:
    try:
        return [kind(**record) for record in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as unusable:
        log.warning("%s cannot be read, as if nothing were noted: %s", path, unusable)
        return []
