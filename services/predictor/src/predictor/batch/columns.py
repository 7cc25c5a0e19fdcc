"""Validates the columns of a file by the rules of `POST /predict`, which come from `Listing` itself.

Each rule concerns one field only, so each distinct value of a column is checked once.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import GenericAlias
from typing import Any, get_type_hints

import polars as pl
from pydantic import TypeAdapter, ValidationError

from core.errors import DataError
from core.listing.parsing import conform
from core.listing.schema import RAW_SCHEMA
from predictor.pricing.listing import Listing, message

_HINTS = get_type_hints(Listing, include_extras=True)
_RULES: dict[str, TypeAdapter[list[Any]]] = {
    name: TypeAdapter(GenericAlias(list, (_HINTS[name],)))  # type: ignore[arg-type]  # built at run time
    for name in Listing.model_fields
}


@dataclass(frozen=True)
class CheckedRows:
    """Rows in the form that the features take, with their errors."""

    raw: pl.DataFrame  # columns of RAW_SCHEMA; null where a value is invalid
    errors: pl.Series  # text, (rows,): each invalid field with its rule; null for a valid row


def check(frame: pl.DataFrame, as_text: bool) -> CheckedRows:
    """Check the columns of `frame` that are fields of a listing. Missing fields are null, other columns are ignored.

    NaN counts as null. Dates may have Polars' date types. With `as_text` (for CSV, which has no types), numbers are
    parsed from text, and blanks are null.

    Raises:
        DataError: no column is a field of a listing, or a column has lists or structures.
    """
    if not _RULES.keys() & set(frame.columns):
        raise DataError(
            f"no column is a field of a listing ({', '.join(_RULES)}): use these names, and separate columns by commas"
        )
    checked = [_checked(frame[name], as_text) for name in _RULES if name in frame.columns]
    raw, messages = (pl.DataFrame(columns) for columns in zip(*checked, strict=True))
    errors = messages.select(error=pl.concat_str(pl.all(), separator="; ", ignore_nulls=True).replace({"": None}))
    return CheckedRows(conform(raw), errors.to_series())


def _checked(column: pl.Series, as_text: bool) -> tuple[pl.Series, pl.Series]:
    """The values of a column in its type of RAW_SCHEMA, null where invalid, and the error messages."""
    name, kind = column.name, RAW_SCHEMA[column.name]
    values = _plain(column)
    distinct = values.unique().drop_nulls()
    inputs = _parse(distinct, kind) if as_text else distinct.to_list()
    wrong: dict[int, str] = {}
    try:
        valid = _RULES[name].validate_python(inputs)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_context=False, include_input=False):
            wrong.setdefault(int(error["loc"][0]), f"{name}: {message(error, name)}")
        valid = _RULES[name].validate_python([None if at in wrong else value for at, value in enumerate(inputs)])
    results = pl.Series(name, valid, dtype=kind)
    messages = pl.Series(name, [wrong.get(at) for at in range(len(inputs))], dtype=pl.String)
    return _map(values, distinct, results), _map(values, distinct, messages)


def _plain(column: pl.Series) -> pl.Series:
    """The column with values that JSON has as well."""
    kind = column.dtype
    if kind.is_nested() or kind == pl.Object():
        raise DataError(f"column {column.name} has the type {kind}, but a field of a listing is one number or one text")
    if kind.is_float():
        return column.fill_nan(None)
    if kind.is_decimal():
        return column.cast(pl.Float64)
    if kind.is_temporal() or kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    return column


def _parse(texts: pl.Series, kind: pl.DataType) -> list[Any]:
    """The texts as numbers if the field is numeric. Other texts stay, and the field's rule refuses them."""
    if kind != pl.Float64():
        return texts.to_list()
    stripped = texts.str.strip_chars()
    numbers = stripped.cast(pl.Float64, strict=False)
    return [text or None if number is None else number for text, number in zip(stripped, numbers, strict=True)]


def _map(values: pl.Series, keys: pl.Series, results: pl.Series) -> pl.Series:
    """`values` with each key replaced by its result."""
    if results.null_count() == len(results):
        return pl.Series(results.name, [None], dtype=results.dtype).new_from_index(0, len(values))
    return values.replace_strict(keys, results, default=None, return_dtype=results.dtype)
