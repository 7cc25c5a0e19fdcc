"""The served batches, and the position of each client's cursor."""

from __future__ import annotations

import threading
from pathlib import Path

import polars as pl

from datasource import recorded, synthetic
from datasource.listings import SHAPES
from datasource.settings import DatasourceSettings


class Source:
    """The batches by position. Cursors count positions; the answer has the number of the batch."""

    def __init__(self, settings: DatasourceSettings) -> None:
        self._settings = settings
        self._folder = Path(settings.house_recording_dir) if settings.house_recording_dir else None
        if self._folder and not (self._folder / recorded.NUMERIC).exists():
            raise FileNotFoundError(f"HOUSE_RECORDING_DIR={self._folder} has no file {recorded.NUMERIC}")
        available = recorded.NUMBERS if self._folder else tuple(shape.number for shape in SHAPES)
        numbers = tuple(int(word) for word in settings.batches.split(",")) if settings.batches else available
        unknown = sorted(set(numbers) - set(available))
        if unknown:
            raise ValueError(
                f"BATCHES names {unknown}, but the {'recorded' if self._folder else 'synthetic'} batches are "
                f"{list(available)}"
            )
        self.numbers = numbers

    def rows(self, number: int) -> pl.DataFrame:
        """Rows of a batch, the same for every call."""
        if self._folder:
            return recorded.load(self._folder, number, self._settings.seed, self._settings.scale)
        return synthetic.generate(number, self._settings.seed, self._settings.scale)[0]

    def about(self) -> dict[str, object]:
        """The served batches, and their columns that are not real."""
        description: dict[str, object] = {"batches": list(self.numbers), "scale": self._settings.scale}
        if self._folder:
            whole = sorted(recorded.WHOLE)
            return description | {
                "listings": "recorded",
                "drawn_columns": recorded.DRAWN_COLUMNS,
                "recorded_whole": whole,
            }
        return description | {"listings": "synthetic", "noise": synthetic.NOISE}

    def floors(self) -> dict[int, synthetic.Floor]:
        """Smallest possible error per synthetic batch. Empty for recorded listings, because it is unknown there."""
        if self._folder:
            return {}
        return {
            number: synthetic.generate(number, self._settings.seed, self._settings.scale)[1] for number in self.numbers
        }


class Cursors:
    """The next position of each (group, day). Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: dict[tuple[int, str], int] = {}

    def advance(self, key: tuple[int, str], end: int) -> int | None:
        """Return the current position and move the cursor to the next one; None at the end."""
        with self._lock:
            position = self._next.get(key, 0)
            if position >= end:
                return None
            self._next[key] = position + 1
            return position

    def peek(self, key: tuple[int, str]) -> int:
        """The current position. The cursor does not move."""
        with self._lock:
            return self._next.get(key, 0)

    def restart(self, key: tuple[int, str]) -> None:
        """Move the cursor back to the first batch."""
        with self._lock:
            self._next[key] = 0
