"""Keeps batches of the prediction log on disk until the database is back."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

from pydantic_core import from_json, to_json

log = logging.getLogger(__name__)
Row = tuple[int | float | str | None, ...]

_ENDING = ".jsonl"
_DRAFT = ".draft-"
_ASIDE = ".refused"
_OLD_DRAFT_SECONDS = 3600  # older drafts belong to a process that was killed while it wrote
_SCAN_SECONDS = 60


class SpillFullError(OSError):
    """The folder has reached its size limit."""


class Spill:
    """A folder with one file per batch, named by time and batch id. Each line of a file is a row.

    Several processes may share it: a file appears by one rename, and if two processes write the same file to the
    database, the ledger stores it once, because it remembers the ids of batches.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Neither reads nor creates the folder."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._names: deque[str] = deque()
        self._scanned = -float("inf")
        self.bytes = 0  # in the folder, since the last scan

    def add(self, batch: UUID, rows: Iterable[Row]) -> None:
        """Write a batch to disk, as the newest one.

        Raises:
            SpillFullError: the folder would exceed its size limit.
            OSError: the folder is not writable.
        """
        self.scan()
        content = b"".join(to_json(row) + b"\n" for row in rows)
        if self.bytes + len(content) > self._max_bytes:
            raise SpillFullError(f"{self._folder} already has {self.bytes} bytes of its limit of {self._max_bytes}")
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020}-{batch}{_ENDING}"
        draft = self._folder / f"{_DRAFT}{batch}"
        try:
            with draft.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self._folder / name)
        except OSError:
            draft.unlink(missing_ok=True)  # on a full disk, the part that was written takes space from others
            raise
        self._names.append(name)
        self.bytes += len(content)

    def oldest(self) -> str | None:
        """File name of the oldest batch; None if there is none."""
        self.scan()
        return self._names[0] if self._names else None

    def read(self, name: str) -> tuple[UUID, list[Row]]:
        """The id and the rows of a batch.

        Raises:
            FileNotFoundError: another process stored the batch and removed the file.
            ValueError: the file is not a batch.
        """
        batch = UUID(name.removesuffix(_ENDING).partition("-")[2])
        rows = [from_json(line) for line in (self._folder / name).read_bytes().splitlines()]
        if not all(isinstance(row, list) for row in rows):
            raise ValueError("a line is not a row")
        return batch, [tuple(row) for row in rows]

    def remove(self, name: str) -> None:
        """Remove a batch that the database has stored."""
        path = self._folder / name
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:  # another process stored it, too
            size = 0
        self._discount(name, size)

    def set_aside(self, name: str) -> None:
        """Rename a file that cannot be stored, for a person to inspect. It still counts towards the size limit."""
        (self._folder / name).rename(self._folder / f"{name}{_ASIDE}")
        self._discount(name, 0)

    def scan(self) -> None:
        """List the files that other and earlier processes left in the folder; at most once a minute."""
        if time.monotonic() - self._scanned < _SCAN_SECONDS:
            return
        self._scanned = time.monotonic()
        names, self.bytes = [], 0
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            entries = []
        except OSError as error:
            log.warning("the folder of the prediction log cannot be listed: %s", error)
            entries = []
        for entry in entries:
            try:
                status = entry.stat()
                if entry.name.startswith(_DRAFT) and time.time() - status.st_mtime > _OLD_DRAFT_SECONDS:
                    os.unlink(entry.path)
                    continue
            except FileNotFoundError:  # another process was faster
                continue
            self.bytes += status.st_size
            if entry.name.endswith(_ENDING):
                names.append(entry.name)
        self._names = deque(sorted(names))

    def _discount(self, name: str, size: int) -> None:
        if name in self._names:
            self._names.remove(name)
        self.bytes = max(0, self.bytes - size)
