"""Which rows of a batch are valid: validate counts the others, split leaves them out."""

from __future__ import annotations

import polars as pl

from core.errors import DataError
from core.features import RAW_SCHEMA, conform
from pipeline.body import UNKNOWN, UNREAD, fields, with_extra
from pipeline.contract import BROKEN, IMPLAUSIBLE, Listing, Plausible

# Of a column's values; more that are not of its type mean that the service changed, not that rows are bad.
_MOST_UNREADABLE = 0.5


def judge(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows in the schema of the contract, with the column `broken_rule`: the first rule broken, or null.

    Raises:
        DataError: a column is missing or of another type throughout.
    """
    raw = with_extra(raw)
    listings = conform(raw)
    _check_schema(raw, listings)
    # a raw object of the first release keeps what cannot be read in its column, as text
    in_column = pl.any_horizontal(raw[name].is_not_null() & listings[name].is_null() for name in RAW_SCHEMA)
    unread = raw.select(pl.coalesce(pl.col(UNREAD), pl.when(in_column).then(pl.lit("{}")))).to_series()
    rows = listings.with_columns(unread.alias(UNREAD)).with_row_index("row")
    failed = Listing.filter(rows).failure.details()
    broken = (
        pl.when(pl.any_horizontal(pl.col(*(rule for rule in names if rule in failed.columns)) == "invalid")).then(
            pl.lit(name)
        )
        for name, names in BROKEN.items()
    )
    told = failed.select("row", broken_rule=pl.coalesce(*broken))
    return rows.join(told, on="row", how="left", maintain_order="left").select(*RAW_SCHEMA, "broken_rule")


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


def implausible(valid: pl.DataFrame) -> dict[str, int]:
    """Valid rows that are beyond what one expects, per reason; a row may count for several."""
    counts = Plausible.filter(valid.select(Plausible.column_names())).failure.counts()
    return {IMPLAUSIBLE[rule]: count for rule, count in sorted(counts.items(), key=lambda pair: -pair[1])}
