"""Stage 1: the next batch, unmodified, into raw/ and the ledger."""

from __future__ import annotations

import contextlib
import hashlib
from typing import Any

import orjson
import polars as pl

from core.features import conform
from pipeline import data_api, rows
from pipeline.context import Context
from pipeline.outcome import SkipRun


def run(context: Context) -> dict[str, Any]:
    """Take up a batch that an earlier run left unfinished; if there is none, ask the data API.

    Raises:
        SkipRun: the API has no more data, or handed out what is stored already.
        DataError: see `data_api.next_batch`.
    """
    unfinished = context.ledger.unfinished()
    if unfinished:
        summary = f"batch {unfinished.batch_number} of an earlier run is {unfinished.state} only: it is taken up again"
        return {"batch": unfinished.batch_number, "rows": unfinished.rows, "summary": summary}
    known = context.settings
    try:
        answer = data_api.next_batch(
            known.data_api_url, known.data_api_group, known.data_api_day, known.data_api_timeout_seconds
        )
    except data_api.LostAnswer:
        context.ledger.note_lost()
        raise
    if answer is None:
        gaps = context.ledger.note_end()
        lost = f"; batches {gaps} never arrived: restart the data API and run again" if gaps else ""
        raise SkipRun(f"the data API has no more data{lost}")
    number = answer.batch_number
    raw = as_frame(answer.rows)  # unchecked
    sha256 = content_hash(raw)
    key = rows.raw_key(number, sha256)
    rows.write(context.store, key, raw)
    if not context.ledger.store(number, sha256, raw.height, key, context.dag_run):
        raise SkipRun(
            f"batch {number} is stored already, with the same content: nothing is counted twice", batch=number
        )
    gaps = context.ledger.note_gaps(number)
    lost = f"; batches {gaps} never arrived" if gaps else ""
    summary = f"batch {number}: {raw.height:,} rows, {answer.size / 1e6:.1f} MB{lost}"
    return {"batch": number, "rows": raw.height, "sha256": sha256[:12], "summary": summary}


def as_frame(records: list[dict[str, Any]]) -> pl.DataFrame:
    """Records as they came, whatever their fields; a column of several types, or of nested values, is kept as text."""
    names = dict.fromkeys(name for row in records for name in row)
    return pl.DataFrame([_column(name, [row.get(name) for row in records]) for name in names])


def _column(name: str, values: list[Any]) -> pl.Series:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return pl.Series(name, values, dtype=pl.Float64, strict=False)
    if len(kinds) == 1 and not kinds & {dict, list}:
        with contextlib.suppress(TypeError, OverflowError):  # whole numbers that no column of numbers holds
            return pl.Series(name, values)
    text = [value if value is None or type(value) is str else orjson.dumps(value).decode() for value in values]
    return pl.Series(name, text, dtype=pl.String if kinds else pl.Null)


def content_hash(raw: pl.DataFrame) -> str:
    """sha256 of a batch's rows: the same for every spelling of the same listings in the same order."""
    listings = conform(raw)
    digest = hashlib.sha256(listings.write_ndjson().encode())
    if any(c.name not in raw.columns or c.null_count() > raw[c.name].null_count() for c in listings):
        digest.update(raw.write_ndjson().encode())  # what cannot be read as listings counts as it is
    return digest.hexdigest()
