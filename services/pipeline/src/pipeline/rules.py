"""What makes a row valid: validate counts what breaks a rule, split leaves it out."""

from __future__ import annotations

import polars as pl

from core.errors import DataError
from core.features import RAW_SCHEMA, conform
from pipeline.body import UNKNOWN, UNREAD, fields, with_extra

# A price below this is a placeholder (1 is common): such rows would drive relative errors to thousands of percent.
LOWEST_PRICE = 1_000.0
# Of a column's values; more that are not of its type mean that the service changed, not that rows are bad.
_MOST_UNREADABLE = 0.5

DUPLICATE = "duplicate"  # not bad, but counted before

RULES: dict[str, pl.Expr] = {
    "unreadable": pl.col("_unreadable"),
    "price missing": pl.col("price").is_null() | ~pl.col("price").is_finite(),
    "price below 1,000": pl.col("price") < LOWEST_PRICE,
    "negative quantity": pl.any_horizontal(pl.col("bed", "bath", "acre_lot", "house_size") < 0),
    "nothing known": pl.all_horizontal(pl.col("bed", "bath", "acre_lot", "house_size", "city", "state").is_null()),
    DUPLICATE: pl.col("_repeated"),
}


def judge(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows in the schema of the contract, with the column `broken_rule`: the first rule broken, or null.

    Raises:
        DataError: a column is missing or of another type throughout.
    """
    raw = with_extra(raw)
    listings = conform(raw)
    _check_schema(raw, listings)
    # a raw object of the first release keeps what cannot be read in its column, as text
    unreadable = pl.col(UNREAD).is_not_null() | pl.any_horizontal(
        raw[name].is_not_null() & listings[name].is_null() for name in RAW_SCHEMA
    )
    marked = listings.with_columns(
        _unreadable=raw.select(unreadable).to_series(),
        _repeated=~listings.select(pl.struct(pl.all()).is_first_distinct()).to_series(),
    )
    broken = pl.coalesce(*(pl.when(rule).then(pl.lit(name)) for name, rule in RULES.items()))
    return marked.with_columns(broken_rule=broken).drop("_unreadable", "_repeated")


def _check_schema(raw: pl.DataFrame, listings: pl.DataFrame) -> None:
    missing = [name for name in RAW_SCHEMA if name not in raw.columns]
    if missing:
        unknown = fields(raw[UNKNOWN])
        hint = f"; unknown ones are {', '.join(unknown)}" if unknown else ""
        raise DataError(f"the batch lacks {', '.join(missing)}{hint}: the data API's schema has changed")
    unread = fields(raw[UNREAD])
    for name, kind in RAW_SCHEMA.items():
        odd = raw.filter(raw[name].is_not_null() & listings[name].is_null())[name].to_list() + unread.get(name, [])
        present = raw.height - listings[name].null_count() + len(odd)
        if len(odd) > _MOST_UNREADABLE * present:
            raise DataError(f"{len(odd):,} of {present:,} values of {name} are no {kind}, such as {odd[0]!r}")


def valid_rows(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows that break no rule, in the schema of the contract."""
    return judge(raw).filter(pl.col("broken_rule").is_null()).drop("broken_rule")
