"""The rules of a `Listing`, applied to whole columns: what the rows of a file may hold, and what is wrong with others.

They are the rules of `POST /predict`, taken from `Listing` itself. Each looks at one field alone, so it looks at each
different value once.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import GenericAlias
from typing import Any, get_type_hints

import polars as pl
from pydantic import TypeAdapter, ValidationError

from core.errors import DataError
from core.features import RAW_SCHEMA, conform
from predictor.listing import Listing

_HINTS = get_type_hints(Listing, include_extras=True)
_RULES: dict[str, TypeAdapter[list[Any]]] = {
    name: TypeAdapter(GenericAlias(list, (_HINTS[name],)))  # type: ignore[arg-type]  # a type made while running
    for name in Listing.model_fields
}


@dataclass(frozen=True)
class Checked:
    """Rows as the features take them."""

    raw: pl.DataFrame  # in RAW_SCHEMA; null where a value breaks its rule
    errors: pl.Series  # text, (rows,): each field that breaks its rule, and the rule; null for a good row


def check(frame: pl.DataFrame, as_text: bool) -> Checked:
    """Look at the columns of `frame` that are fields of a listing; missing ones are null, others are ignored.

    NaN is null. Dates may be of Polars' types. With `as_text` (of CSV, which has no types) numbers are read out of
    text, and blanks are null.

    Raises:
        DataError: no column is a field, or one holds lists or structures.
    """
    if not _RULES.keys() & set(frame.columns):
        raise DataError(
            f"no column is a field of a listing ({', '.join(_RULES)}): name them so, and separate by commas"
        )
    found = {name: _checked(frame[name], as_text) for name in _RULES if name in frame.columns}
    raw, told = (pl.DataFrame(columns) for columns in zip(*found.values(), strict=True))
    errors = told.select(error=pl.concat_str(pl.all(), separator="; ", ignore_nulls=True).replace({"": None}))
    return Checked(conform(raw), errors.to_series())


def _checked(column: pl.Series, as_text: bool) -> tuple[pl.Series, pl.Series]:
    """The values of a column in its type of RAW_SCHEMA, and what is wrong with those that are null instead."""
    name, kind = column.name, RAW_SCHEMA[column.name]
    values = _plain(column)
    different = values.unique().drop_nulls()
    given = _read(different, kind) if as_text else different.to_list()
    wrong: dict[int, str] = {}
    try:
        usable = _RULES[name].validate_python(given)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False, include_context=False, include_input=False):
            wrong.setdefault(int(error["loc"][0]), f"{name}: {error['msg']}")
        usable = _RULES[name].validate_python([None if at in wrong else value for at, value in enumerate(given)])
    found = pl.Series(name, usable, dtype=kind)
    told = pl.Series(name, [wrong.get(at) for at in range(len(given))], dtype=pl.String)
    return _mapped(values, different, found), _mapped(values, different, told)


def _plain(column: pl.Series) -> pl.Series:
    """A column of values that JSON has."""
    kind = column.dtype
    if kind.is_nested() or kind == pl.Object():
        raise DataError(f"column {column.name} is {kind}: a field of a listing is one number or one text")
    if kind.is_float():
        return column.fill_nan(None)
    if kind.is_decimal():
        return column.cast(pl.Float64)
    if kind.is_temporal() or kind in (pl.Categorical, pl.Enum):
        return column.cast(pl.String)
    return column


def _read(texts: pl.Series, kind: pl.DataType) -> list[Any]:
    """Texts as numbers, where the field is one; what is no number stays as it is, for the rule to refuse."""
    if kind != pl.Float64():
        return texts.to_list()
    bare = texts.str.strip_chars()
    numbers = bare.cast(pl.Float64, strict=False)
    return [text or None if number is None else number for text, number in zip(bare, numbers, strict=True)]


def _mapped(values: pl.Series, keys: pl.Series, found: pl.Series) -> pl.Series:
    if found.null_count() == len(found):
        return pl.Series(found.name, [None], dtype=found.dtype).new_from_index(0, len(values))
    return values.replace_strict(keys, found, default=None, return_dtype=found.dtype)
