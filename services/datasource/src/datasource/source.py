"""The batches that this process serves, and where each client's cursor stands."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl

from datasource import recorded, synthetic
from datasource.listings import SHAPES
from datasource.settings import DatasourceSettings


class Source:
    """Batches by position; a position is what a cursor counts, a number is the batch's name in the answer."""

    def __init__(self, settings: DatasourceSettings) -> None:
        self._settings = settings
        self._folder = Path(settings.house_recording_dir) if settings.house_recording_dir else None
        if self._folder and not (self._folder / recorded.NUMERIC).exists():
            raise FileNotFoundError(f"HOUSE_RECORDING_DIR={self._folder} holds no {recorded.NUMERIC}")
        known = recorded.NUMBERS if self._folder else tuple(shape.number for shape in SHAPES)
        wanted = tuple(int(word) for word in settings.batches.split(",")) if settings.batches else known
        unknown = sorted(set(wanted) - set(known))
        if unknown:
            raise ValueError(
                f"BATCHES names {unknown}; {'recorded' if self._folder else 'synthetic'} are {list(known)}"
            )
        self.numbers = wanted

    def rows(self, number: int) -> pl.DataFrame:
        """Rows of a batch, the same at every call."""
        if self._folder:
            return recorded.load(self._folder, number, self._settings.seed, self._settings.scale)
        return synthetic.generate(number, self._settings.seed, self._settings.scale)[0]

    def about(self) -> dict[str, object]:
        """What is served, and what of it is not real."""
        told: dict[str, object] = {"batches": list(self.numbers), "scale": self._settings.scale}
        if self._folder:
            whole = sorted(recorded.WHOLE)
            return told | {"listings": "recorded", "drawn_columns": recorded.DRAWN_COLUMNS, "recorded_whole": whole}
        return told | {"listings": "synthetic", "noise": synthetic.NOISE}

    def floors(self) -> dict[int, synthetic.Floor]:
        """Best possible error per synthetic batch; empty for recorded listings, where nobody knows it."""
        if self._folder:
            return {}
        return {
            number: synthetic.generate(number, self._settings.seed, self._settings.scale)[1] for number in self.numbers
        }


class Cursors:
    """The next position of each (group, day); safe among threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[tuple[int, str], int] = {}

    def advance(self, key: tuple[int, str], end: int) -> int | None:
        """The position to hand out now, or None at the end; the next call gets the next one."""
        with self._lock:
            position = self._next.get(key, 0)
            if position >= end:
                return None
            self._next[key] = position + 1
            return position

    def peek(self, key: tuple[int, str]) -> int:
        """The position that the next call would get."""
        with self._lock:
            return self._next.get(key, 0)

    def restart(self, key: tuple[int, str]) -> None:
        """Back to the first batch."""
        with self._lock:
            self._next[key] = 0
