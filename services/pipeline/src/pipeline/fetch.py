"""Stage 1: the next batch, unmodified, into raw/ and the ledger."""

from __future__ import annotations

import hashlib
from typing import Any

import polars as pl

from core.errors import DataError
from core.features import conform
from pipeline import data_api, rows
from pipeline.context import Context
from pipeline.outcome import SkipRun


def run(context: Context) -> dict[str, Any]:
    """Take up a batch that an earlier run left unfinished; if there is none, ask the data API.

    Raises:
        SkipRun: the API has no more data, or handed out what is stored already.
        DataError: see `data_api.next_batch`; or the batch has no rows.
    """
    unfinished = context.ledger.unfinished()
    if unfinished:
        summary = f"batch {unfinished.batch_number} of an earlier run is {unfinished.state} only: it is taken up again"
        return {"batch": unfinished.batch_number, "rows": unfinished.rows, "summary": summary}
    known = context.settings
    answer = data_api.next_batch(
        known.data_api_url, known.data_api_group, known.data_api_day, known.data_api_timeout_seconds
    )
    if answer is None:
        gaps = context.ledger.gaps()
        lost = f"; batches {gaps} never arrived: restart the data API and run again" if gaps else ""
        raise SkipRun(f"the data API has no more data{lost}")
    number = answer.batch_number
    if not answer.rows:
        raise DataError(f"batch {number} has no rows")
    raw = pl.DataFrame(answer.rows, infer_schema_length=None, strict=False)  # unchecked
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


def content_hash(raw: pl.DataFrame) -> str:
    """sha256 of a batch's rows: the same for every spelling of the same listings in the same order."""
    return hashlib.sha256(conform(raw).write_ndjson().encode()).hexdigest()
