"""Applies `row_rules` to the rows of a batch. Stage validate counts invalid rows, stage split drops them."""

from __future__ import annotations

import polars as pl

from core.errors import DataError
from core.listing.parsing import conform
from core.listing.schema import RAW_SCHEMA
from pipeline.ingest.body import UNKNOWN, UNREAD, fields, with_extra
from pipeline.validation.row_rules import BROKEN, IMPLAUSIBLE, Plausible, ValidRow

# Share of the values of a column. If more cannot be read, the service has changed its schema.
_MAX_UNREADABLE = 0.5


def check_rows(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows in the schema of the contract, with a column `broken_rule`: the first broken rule, or null.

    Raises:
        DataError: a column is missing, or over half of its values cannot be read.
    """
    raw = with_extra(raw)
    listings = conform(raw)
    _check_schema(raw, listings)
    # Raw objects of the first release have unreadable values in their own column, as text.
    in_column = pl.any_horizontal(raw[name].is_not_null() & listings[name].is_null() for name in RAW_SCHEMA)
    unread = raw.select(pl.coalesce(pl.col(UNREAD), pl.when(in_column).then(pl.lit("{}")))).to_series()
    rows = listings.with_columns(unread.alias(UNREAD)).with_row_index("row")
    failed = ValidRow.filter(rows).failure.details()
    broken = (
        pl.when(pl.any_horizontal(pl.col(*(rule for rule in names if rule in failed.columns)) == "invalid")).then(
            pl.lit(name)
        )
        for name, names in BROKEN.items()
    )
    broken_rules = failed.select("row", broken_rule=pl.coalesce(*broken))
    return rows.join(broken_rules, on="row", how="left", maintain_order="left").select(*RAW_SCHEMA, "broken_rule")


def _check_schema(raw: pl.DataFrame, listings: pl.DataFrame) -> None:
    missing = [name for name in RAW_SCHEMA if name not in raw.columns]
    if missing:
        unknown = fields(raw[UNKNOWN])
        hint = f" (unknown fields: {', '.join(unknown)})" if unknown else ""
        raise DataError(f"the batch lacks {', '.join(missing)}{hint}: the schema of the data API has changed")
    unread = fields(raw[UNREAD])
    for name, kind in RAW_SCHEMA.items():
        odd = raw.filter(raw[name].is_not_null() & listings[name].is_null())[name].to_list() + unread.get(name, [])
        present = raw.height - listings[name].null_count() + len(odd)
        if len(odd) > _MAX_UNREADABLE * present:
            raise DataError(f"{len(odd):,} of {present:,} values of {name} are not {kind}, for example {odd[0]!r}")


def valid_rows(raw: pl.DataFrame) -> pl.DataFrame:
    """The rows that break no rule, in the schema of the contract."""
    return check_rows(raw).filter(pl.col("broken_rule").is_null()).drop("broken_rule")


def implausible(valid: pl.DataFrame) -> dict[str, int]:
    """Number of implausible rows among valid ones, per reason. A row may count for several reasons."""
    counts = Plausible.filter(valid.select(Plausible.column_names())).failure.counts()
    return {IMPLAUSIBLE[rule]: count for rule, count in sorted(counts.items(), key=lambda pair: -pair[1])}
