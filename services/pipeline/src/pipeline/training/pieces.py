"""Divides rows into pieces, so that the features of a bounded number of rows are in memory, not of all rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any, Protocol, TypeVar

import numpy as np

from pipeline.rows import Deferred, Kind

PIECE_ROWS = 50_000  # a piece of the feature matrix has 4 MB; the temporary arrays of its formulas a few times that


class Selectable(Protocol):
    """Rows that an index array or a slice selects, such as a frame."""

    def __len__(self) -> int: ...
    def __getitem__(self, rows: Any, /) -> Any: ...


Some = TypeVar("Some", bound=Selectable)


def pieces(parts: Sequence[Deferred[Some]]) -> list[Deferred[Some]]:
    """The same rows in the same order, at most `PIECE_ROWS` in each part."""
    read = [part.read for part in last_kept(parts)]
    return [
        Deferred(min(PIECE_ROWS, part.count - begin), partial(_piece, read[at], begin, begin + PIECE_ROWS))
        for at, part in enumerate(parts)
        for begin in range(0, part.count, PIECE_ROWS)
    ]


def last_kept(parts: Sequence[Deferred[Kind]]) -> list[Deferred[Kind]]:
    """The same rows. The part that was read last stays in memory until another is read."""
    read = lru_cache(maxsize=1)(lambda at: parts[at].read())
    return [Deferred(part.count, partial(read, at)) for at, part in enumerate(parts)]


def select(parts: Iterable[Deferred[Some]], positions: np.ndarray) -> Iterator[Some]:
    """The rows at some positions among the rows of all parts, ascending; one item per part that has any of them."""
    begin = 0
    for part in parts:
        end = begin + part.count
        inside = slice(*np.searchsorted(positions, (begin, end)))
        if inside.start < inside.stop:
            yield part.read()[positions[inside] - begin]
        begin = end


def spread(count: int, most: int) -> np.ndarray:
    """Positions of at most `most` of `count` rows, evenly spread, ascending from 0."""
    return np.arange(0, count, max(1, -(-count // most)))


def _piece(read: Any, begin: int, end: int) -> Any:
    return read()[begin:end]
