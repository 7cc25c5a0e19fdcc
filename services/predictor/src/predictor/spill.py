"""Batches of the prediction log that wait on disk for the database."""

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
_OLD_DRAFT_SECONDS = 3600  # of a process that was killed while it wrote
_SCAN_SECONDS = 60


class SpillFullError(OSError):
    """The folder holds as much as it may."""


class Spill:
    """A folder of files, one per batch, named by time and batch id, whose lines are rows.

    Several processes may share it: a file appears whole or not at all, and one that two of them read is stored once,
    because the ledger knows its batch.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Nothing is read or made yet."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._names: deque[str] = deque()
        self._scanned = -float("inf")
        self.bytes = 0  # held, as far as is known without looking anew

    def add(self, batch: UUID, rows: Iterable[Row]) -> None:
        """Keep a batch, behind all others.

        Raises:
            SpillFullError: there is no room for it.
            OSError: the folder cannot be written to.
        """
        self.scan()
        content = b"".join(to_json(row) + b"\n" for row in rows)
        if self.bytes + len(content) > self._max_bytes:
            raise SpillFullError(f"{self._folder} holds {self.bytes} bytes of at most {self._max_bytes}")
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns():020}-{batch}{_ENDING}"
        draft = self._folder / f"{_DRAFT}{batch}"
        with draft.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.rename(self._folder / name)
        self._names.append(name)
        self.bytes += len(content)

    def oldest(self) -> str | None:
        """The name of the batch that waits longest."""
        self.scan()
        return self._names[0] if self._names else None

    def read(self, name: str) -> tuple[UUID, list[Row]]:
        """A batch that waits.

        Raises:
            FileNotFoundError: another process stored it.
            ValueError: this is no batch.
        """
        batch = UUID(name.removesuffix(_ENDING).partition("-")[2])
        rows = [from_json(line) for line in (self._folder / name).read_bytes().splitlines()]
        if not all(isinstance(row, list) for row in rows):
            raise ValueError("a line is no row")
        return batch, [tuple(row) for row in rows]

    def remove(self, name: str) -> None:
        """Forget a batch that is stored."""
        path = self._folder / name
        try:
            size = path.stat().st_size
            path.unlink()
        except FileNotFoundError:  # another process stored it, too
            size = 0
        self._forget(name, size)

    def set_aside(self, name: str) -> None:
        """Keep a file that cannot be stored for a person to look at; it goes on to take room."""
        (self._folder / name).rename(self._folder / f"{name}{_ASIDE}")
        self._forget(name, 0)

    def scan(self) -> None:
        """See what other processes, and those before, left here; once a minute."""
        if time.monotonic() - self._scanned < _SCAN_SECONDS:
            return
        self._scanned = time.monotonic()
        names, self.bytes = [], 0
        try:
            entries = list(os.scandir(self._folder))
        except FileNotFoundError:
            entries = []
        except OSError as broken:
            log.warning("what waits of the prediction log cannot be read: %s", broken)
            entries = []
        for entry in entries:
            try:
                found = entry.stat()
                if entry.name.startswith(_DRAFT) and time.time() - found.st_mtime > _OLD_DRAFT_SECONDS:
                    os.unlink(entry.path)
                    continue
            except FileNotFoundError:  # another process was faster
                continue
            self.bytes += found.st_size
            if entry.name.endswith(_ENDING):
                names.append(entry.name)
        self._names = deque(sorted(names))

    def _forget(self, name: str, size: int) -> None:
        if name in self._names:
            self._names.remove(name)
        self.bytes = max(0, self.bytes - size)
