"""Parses the response body of a batch: JSON on disk becomes listings in columns, with a hash of their content.

Rows are decoded in chunks, so that at most one chunk exists as Python objects. A chunk in the service's usual format is
decoded straight into the contract's types. Any other chunk takes a slower path with the same result.
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
from core.listing.parsing import parse_listings
from core.listing.schema import RAW_SCHEMA

UNREAD = "unread"  # JSON of the values that cannot be converted to the type of their field; null in nearly every row
UNKNOWN = "unknown"  # JSON of the fields that are not in the contract
_EXTRA = {UNREAD: pl.String(), UNKNOWN: pl.String()}
_CHUNK = 20_000  # rows


class InvalidBody(DataError):
    """The body is not JSON, or not a batch."""


@dataclass(frozen=True)
class BatchContent:
    """The unchecked content of a batch.

    `raw` has the fields of the contract that at least one row has, converted to the types of the contract, and the
    columns `unread` and `unknown` if a row needs them. `sha256` depends on the listings and their order only, not on
    their spelling in JSON, nor on unknown fields.
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
_usual_format = msgspec.json.Decoder(list[_Row])  # type: ignore[valid-type] # built from RAW_SCHEMA
_any_format = msgspec.json.Decoder(list[dict[str, Any]])


def read(file: BinaryIO) -> BatchContent:
    """Read the body of a batch from a file on disk.

    Raises:
        InvalidBody: the body is cut off, or is not a batch. The message names the position of the error.
    """
    try:
        # The map stays open, because the rows point into it.
        body = msgspec.json.decode(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), type=_Body)
        raw, sha256 = _in_columns(body.data)
    except msgspec.ValidationError as error:
        raise InvalidBody(
            f"is not a batch ({error}). Check DATA_API_URL, and whether the schema of the service has changed"
        ) from error
    except (msgspec.DecodeError, ValueError) as error:  # broken JSON, broken UTF-8, an empty file
        raise InvalidBody(f"is not JSON ({error}). It was cut off, or another service answered") from error
    return BatchContent(body.batch_number, raw, sha256)


def from_records(records: Sequence[dict[str, Any]]) -> pl.DataFrame:
    """The raw columns of records, as `read` would return them."""
    return _in_columns([msgspec.Raw(msgspec.json.encode(record)) for record in records])[0]


def with_extra(raw: pl.DataFrame) -> pl.DataFrame:
    """Raw rows with the columns `unread` and `unknown`; a column that was absent is null."""
    return raw.with_columns(pl.lit(None, kind).alias(name) for name, kind in _EXTRA.items() if name not in raw.columns)


def fields(extra: pl.Series) -> dict[str, list[Any]]:
    """The values in a column `unread` or `unknown`, by field, in the order of their rows."""
    values: dict[str, list[Any]] = {}
    for text in extra.drop_nulls():
        for name, value in msgspec.json.decode(text).items():
            values.setdefault(name, []).append(value)
    return values


def content_hash(raw: pl.DataFrame) -> str:
    """The `sha256` of `BatchContent`, computed from its columns."""
    digest = _Digest()
    for begin in range(0, raw.height, _CHUNK):
        digest.update(_complete(raw.slice(begin, _CHUNK)))
    return digest.value(absent=[name for name in RAW_SCHEMA if name not in raw.columns])


class _Digest:
    """Hash of the listings, and of the values that cannot be read, if there are any."""

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
    with ThreadPoolExecutor(1) as pool:  # hashes a chunk while the next one is decoded
        hashed = []
        for chunk, fields in _chunks(rows):
            hashed.append(pool.submit(digest.update, chunk))
            chunks.append(chunk)
            present |= fields
        for done in hashed:
            done.result()
    raw = pl.concat(chunks)
    absent = [name for name in RAW_SCHEMA if name not in present]
    empty = [name for name in _EXTRA if raw[name].null_count() == raw.height and present]
    return raw.drop(absent + empty), digest.value(absent)


def _chunks(rows: list[msgspec.Raw]) -> Iterator[tuple[pl.DataFrame, set[str]]]:
    """Chunks with the columns of the contract and the two extra ones, each with the names of its contract fields."""
    for begin in range(0, len(rows), _CHUNK):
        text = b"[" + b",".join(rows[begin : begin + _CHUNK]) + b"]"
        try:
            listings = _usual_format.decode(text)
        except msgspec.ValidationError:
            yield _from_any_format(_any_format.decode(text))
        else:
            columns = (
                pl.Series(name, map(attrgetter(name), listings), dtype=kind) for name, kind in RAW_SCHEMA.items()
            )
            yield _complete(pl.DataFrame(columns)), set(RAW_SCHEMA)


def _from_any_format(records: list[dict[str, Any]]) -> tuple[pl.DataFrame, set[str]]:
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
    """Whether a value is neither a number nor a text."""
    return isinstance(value, bool | list | dict)


def _complete(chunk: pl.DataFrame) -> pl.DataFrame:
    """Add the missing columns of the contract, and the two extra ones, as null."""
    missing = (pl.lit(None, kind).alias(name) for name, kind in RAW_SCHEMA.items() if name not in chunk.columns)
    return with_extra(chunk.with_columns(missing)).select(*RAW_SCHEMA, *_EXTRA)
