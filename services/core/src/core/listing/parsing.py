"""Parsing of raw listings: any spelling of the fields becomes a frame of `RAW_SCHEMA`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from core.listing.schema import RAW_SCHEMA


def parse_listings(records: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    """Parse listings into a frame of `RAW_SCHEMA`.

    Accepts integers for floats, zero-padded text for zip codes, any order of fields, missing fields and unknown
    fields. A value that cannot be converted to the type of its column becomes null: the predictor and the validation
    check values before this function.
    """
    return pl.DataFrame([_column(name, kind, [row.get(name) for row in records]) for name, kind in RAW_SCHEMA.items()])


def conform(frame: pl.DataFrame) -> pl.DataFrame:
    """Convert a frame of listings to `RAW_SCHEMA`. Same result as `parse_listings`, for data that is in columns."""
    return frame.with_columns(
        (_cast(frame[name], kind) if name in frame.columns else pl.lit(None, kind)).alias(name)
        for name, kind in RAW_SCHEMA.items()
    ).select(RAW_SCHEMA.keys())


def _column(name: str, kind: pl.DataType, values: list[Any]) -> pl.Series:
    try:
        return pl.Series(name, values, dtype=kind, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        text = pl.Series(name, [None if value is None else str(value) for value in values], dtype=pl.String)
        return text.to_frame().select(_cast(text, kind)).to_series()


def _cast(column: pl.Series, kind: pl.DataType) -> pl.Expr:
    """Cast a column. White space around a number in text is ignored; text columns keep it."""
    values = pl.col(column.name)
    if column.dtype == pl.String and kind != pl.String():
        values = values.str.strip_chars()
    return values.cast(kind, strict=False)
