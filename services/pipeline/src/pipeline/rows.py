"""Where rows lie in the object store, and how they are read and written."""

from __future__ import annotations

import io
from typing import Literal

import polars as pl

from core.storage import Store

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


def raw_key(number: int, sha256: str) -> str:
    """Key of a batch as it came; another content of the same number is another object."""
    return f"raw/{number:04d}-{sha256[:12]}.parquet"


def quarantine_key(number: int) -> str:
    """Key of a batch's rows that broke a rule."""
    return f"quarantine/{number:04d}.parquet"


REPORTS, FINGERPRINTS = "reports/", "fingerprints/"


def report_key(number: int, kind: str) -> str:
    """Key of the report on a batch, as `json` or `html`."""
    return f"{REPORTS}{number:04d}.{kind}"


def reports(store: Store, number: int) -> dict[str, str]:
    """The report on a batch by the name of its file; nothing of a batch that an earlier release validated."""
    keys = {f"validation.{kind}": report_key(number, kind) for kind in ("json", "html")}
    return {name: store.get(key).decode() for name, key in keys.items() if store.exists(key)}


def fingerprints_key(number: int) -> str:
    """Key of a hash of each valid row of a batch."""
    return f"{FINGERPRINTS}{number:04d}.parquet"


def clean_key(number: int, split: Split) -> str:
    """Key of one split of a batch's clean rows."""
    return f"clean/{number:04d}/{split}.parquet"


def write(store: Store, key: str, frame: pl.DataFrame) -> str:
    """Store a frame as Parquet; the same rows give the same bytes."""
    content = io.BytesIO()
    frame.write_parquet(content, compression="zstd", statistics=True)
    return store.put(key, content.getvalue())


def read(store: Store, key: str) -> pl.DataFrame:
    """Read a stored frame."""
    return pl.read_parquet(io.BytesIO(store.get(key)))


def read_split(store: Store, numbers: list[int], split: Split) -> pl.DataFrame:
    """The rows of one split of several batches, in the order of their numbers."""
    return pl.concat([read(store, clean_key(number, split)) for number in numbers])
