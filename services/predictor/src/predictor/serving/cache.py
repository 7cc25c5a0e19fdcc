"""Model bundles on disk, so that a process can start while MLflow is away. Pods may share the folder.

    <version>-<sha256>/      a complete bundle; it appears by one rename and is found by version and manifest
    served.json              the versions that served last, newest first
    refused-<host>.json      the versions that this pod refused; other pods decide for themselves
    .draft-*/                an unfinished download, or the remains of one

Writers only add files and replace them by renaming; the last writer wins. A loaded bundle is in memory, so removing its
folder does not affect the processes that serve it. A bundle is removed only if it is not one of those that served last
and is old, because another process may be about to load it.
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

from core.stores.registry import ModelVersion

KEPT = 3  # versions: enough for a rollback, and for an older release that cannot load the newest bundle
OLD_SECONDS = 600
OLD_DRAFT_SECONDS = 86_400  # much longer than a download and a loading test take
MAX_REFUSALS = 100
_DRAFT = ".draft-"

log = logging.getLogger(__name__)
Record = TypeVar("Record")


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A version that had the alias but failed a check, so that it does not serve."""

    version: str
    run_id: str
    reason: str
    refused_at: str
    final: bool = True  # False: each poll checks the version again


class BundleCache:
    """The folder with the bundles. The first write creates it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._refused = folder / f"refused-{os.uname().nodename}.json"

    def find(self, version: ModelVersion) -> Path | None:
        """The folder of a version's bundle, or None. The caller has to check that the bundle is intact."""
        directory = self._folder / _name(version)
        return directory if directory.is_dir() else None

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A new folder for a download. It is removed at the end, unless `keep` moved it.

        Raises:
            OSError: the folder is not writable.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self._folder))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def keep(self, version: ModelVersion, draft: Path) -> None:
        """Move a checked draft to its final name. It replaces a bundle of the same name, which was not usable.

        Raises:
            OSError: the folder is not writable.
        """
        target = self._folder / _name(version)
        with self.draft() as trash:
            with suppress(FileNotFoundError):
                target.rename(trash / target.name)
            try:
                draft.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):  # these two: another process was faster
                    raise

    def served(self) -> list[ModelVersion]:
        """The versions that served last, newest first."""
        return _read(self._folder / "served.json", ModelVersion)

    def add_served(self, version: ModelVersion) -> None:
        """Put a version at the front of the list of served versions, and remove old bundles and drafts."""
        kept = [version, *(other for other in self.served() if other != version)][:KEPT]
        self._write(self._folder / "served.json", kept)
        self._clean({_name(each) for each in kept})

    def refused(self) -> tuple[Refusal, ...]:
        """The versions that processes of this pod refused."""
        return tuple(_read(self._refused, Refusal))

    def set_refused(self, refused: tuple[Refusal, ...]) -> None:
        """Replace the stored refusals, which the next process of this pod reads."""
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
                continue  # another owner: the spill folder of the prediction log may be here
            with suppress(FileNotFoundError):  # another process was faster
                if time.time() - path.stat().st_mtime < (OLD_DRAFT_SECONDS if draft else OLD_SECONDS):
                    continue
                if path.is_dir() and path.name not in needed:
                    shutil.rmtree(path, ignore_errors=True)
                elif path.name.startswith("refused-") and path != self._refused:
                    path.unlink()


def _name(version: ModelVersion) -> str:
    """Folder name of a version. Other characters are replaced, so that no registry value can leave the folder."""
    return re.sub(r"[^0-9A-Za-z-]", "_", f"{version.version}-{version.manifest_sha256[:16]}")


def _read(path: Path, kind: type[Record]) -> list[Record]:
    try:
        return [kind(**record) for record in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read and counts as empty: %s", path, error)
        return []
