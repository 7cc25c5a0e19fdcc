"""The body of a batch, on disk: from JSON of whatever spelling to listings in columns, and the hash of their content.

The rows are decoded in chunks, so that no more than a chunk of them is ever held as Python objects. A chunk in the
service's own spelling is decoded straight into its types; any other takes a slower path with the same outcome.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, BinaryIO

import msgspec
import polars as pl

from core.errors import DataError
from core.features import RAW_SCHEMA, parse_listings

UNREAD = "unread"  # JSON of a row's values that cannot be of their field's type; null in nearly every row
UNKNOWN = "unknown"  # JSON of a row's fields that the contract does not know
_EXTRA = {UNREAD: pl.String(), UNKNOWN: pl.String()}
_CHUNK = 20_000  # rows


class NoBatch(DataError):
    """A body is no JSON, or is none of a batch."""


@dataclass(frozen=True)
class Content:
    """A batch as it came, unchecked.

    `raw` has the fields of the contract that at least one row has, in the contract's types whatever their spelling,
    and the columns `unread` and `unknown` where a row needs them. `sha256` is the same for every spelling of the same
    listings in the same order; unknown fields do not count.
    """

    batch_number: int
    raw: pl.DataFrame
    sha256: str


class _Body(msgspec.Struct):
    batch_number: Annotated[int, msgspec.Meta(ge=0)]
    data: Annotated[list[msgspec.Raw], msgspec.Meta(min_length=1)]


_Row = msgspec.defstruct(
    "_Row",
    [(name, (str if kind == pl.String() else float) | None) for name, kind in RAW_SCHEMA.items()],
    forbid_unknown_fields=True,
    gc=False,
)
_own_spelling = msgspec.json.Decoder(list[_Row])  # type: ignore[valid-type] # made of the contract above
_any_spelling = msgspec.json.Decoder(list[dict[str, Any]])


def read(file: BinaryIO) -> Content:
    """Read the body of a batch from a file on disk.

    Raises:
        NoBatch: it is cut off, or another program's; the text says where it is wrong.
    """
    try:
        # never closed by name: the rows point into it
        body = msgspec.json.decode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), type=_Body)
        raw, sha256 = _in_columns(body.data)
    except msgspec.ValidationError as foreign:
        raise NoBatch(f"is no batch ({foreign}): is this the right service, has it changed?") from foreign
    except (msgspec.DecodeError, ValueError) as broken:  # of JSON, of UTF-8, of a file without a byte
        raise NoBatch(f"is no JSON ({broken}): it was cut off, or is another program's") from broken
    return Content(body.batch_number, raw, sha256)


def from_records(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The raw columns of records, as if they had come in a body."""
    return _in_columns([msgspec.Raw(msgspec.json.encode(record)) for record in records])[0]


def with_extra(raw: pl.DataFrame) -> pl.DataFrame:
    """Raw rows with the columns `unread` and `unknown`, null where no row needs them."""
    return raw.with_columns(pl.lit(None, kind).alias(name) for name, kind in _EXTRA.items() if name not in raw.columns)


def fields(extra: pl.Series) -> dict[str, list[Any]]:
    """The values in a column `unread` or `unknown`, by field, in the order of their rows."""
    found: dict[str, list[Any]] = {}
    for text in extra.drop_nulls():
        for name, value in msgspec.json.decode(text).items():
            found.setdefault(name, []).append(value)
    return found


def content_hash(raw: pl.DataFrame) -> str:
    """What `Content` calls `sha256`, of rows in columns."""
    digest = _Digest()
    for begin in range(0, raw.height, _CHUNK):
        digest.update(_complete(raw.slice(begin, _CHUNK)))
    return digest.value(absent=[name for name in RAW_SCHEMA if name not in raw.columns])


class _Digest:
    """Of the listings; and, if something cannot be read as listings, of that too as it is."""

    def __init__(self) -> None:
        self._listings, self._odd = hashlib.sha256(), b""
        self._rows = 0

    def update(self, chunk: pl.DataFrame) -> None:
        self._listings.update(chunk.select(*RAW_SCHEMA).write_ndjson().encode())
        if chunk[UNREAD].null_count() < chunk.height:
            odd = chunk.with_row_index("row", self._rows).filter(pl.col(UNREAD).is_not_null())
            self._odd += odd.select("row", UNREAD).write_ndjson().encode()
        self._rows += chunk.height

    def value(self, absent: list[str]) -> str:
        self._listings.update(self._odd)
        if absent:
            self._listings.update(msgspec.json.encode({"absent": absent}))
        return self._listings.hexdigest()


def _in_columns(rows: list[msgspec.Raw]) -> tuple[pl.DataFrame, str]:
    chunks, present = [], set[str]()
    digest = _Digest()
    with ThreadPoolExecutor(1) as aside:  # the hash of a chunk, while the next one is decoded
        hashed = []
        for chunk, fields in _chunks(rows):
            hashed.append(aside.submit(digest.update, chunk))
            chunks.append(chunk)
            present |= fields
        for done in hashed:
            done.result()
    raw = pl.concat(chunks)
    absent = [name for name in RAW_SCHEMA if name not in present]
    empty = [name for name in _EXTRA if raw[name].null_count() == raw.height and present]
    return raw.drop(absent + empty), digest.value(absent)


def _chunks(rows: list[msgspec.Raw]) -> Iterator[tuple[pl.DataFrame, set[str]]]:
    """Chunks in the contract's columns and the two extra ones, each with the names of the contract's fields in it."""
    for begin in range(0, len(rows), _CHUNK):
        text = b"[" + b",".join(rows[begin : begin + _CHUNK]) + b"]"
        try:
            listings = _own_spelling.decode(text)
        except msgspec.ValidationError:
            yield _from_any_spelling(_any_spelling.decode(text))
        else:
            columns = (
                pl.Series(name, map(attrgetter(name), listings), dtype=kind) for name, kind in RAW_SCHEMA.items()
            )
            yield _complete(pl.DataFrame(columns)), set(RAW_SCHEMA)


def _from_any_spelling(records: list[dict[str, Any]]) -> tuple[pl.DataFrame, set[str]]:
    plain = [{name: None if _is_odd(value) else value for name, value in record.items()} for record in records]
    listings = parse_listings(plain)
    null = {name: listings[name].is_null().to_list() for name in RAW_SCHEMA}
    unread, unknown = [], []
    for at, record in enumerate(records):
        unread.append({n: v for n, v in record.items() if n in RAW_SCHEMA and v is not None and null[n][at]})
        unknown.append({n: v for n, v in record.items() if n not in RAW_SCHEMA})
    extra = [
        pl.Series(name, [msgspec.json.encode(odd, order="sorted").decode() if odd else None for odd in odds], pl.String)
        for name, odds in ((UNREAD, unread), (UNKNOWN, unknown))
    ]
    return listings.with_columns(extra), {name for record in records for name in record if name in RAW_SCHEMA}


def _is_odd(value: Any) -> bool:
    """A value that is no spelling of a number or a text."""
    return isinstance(value, bool | list | dict)


def _complete(chunk: pl.DataFrame) -> pl.DataFrame:
    """With all columns of the contract and the two extra ones, null where they were missing."""
    missing = (pl.lit(None, kind).alias(name) for name, kind in RAW_SCHEMA.items() if name not in chunk.columns)
    return with_extra(chunk.with_columns(missing)).select(*RAW_SCHEMA, *_EXTRA)
