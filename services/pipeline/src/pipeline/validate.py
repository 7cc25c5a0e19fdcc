"""Stage 2: every row is valid, or set aside with the first rule that it breaks. None is dropped in silence."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import polars as pl

from core.errors import DataError
from core.features import RAW_SCHEMA
from core.ledger import Batch
from pipeline import rows, validation
from pipeline.body import UNKNOWN, fields, with_extra
from pipeline.context import Context
from pipeline.contract import DUPLICATE
from pipeline.rules import implausible, judge


def run(context: Context, batch: int) -> dict[str, Any]:
    """Judge the rows of a stored batch, and report on them.

    Raises:
        DataError: the batch's columns are not those of the contract, or no row is valid; the ledger notes that none of
            its rows is used.
    """
    known = context.ledger.batch(batch)
    raw = rows.read(context.store, known.raw_key)  # unchecked
    before = _reports(context, batch)
    try:
        judged = judge(raw)
        counts = validation.Counts.of(judged)
        if not counts.valid:
            raise DataError(f"no row of batch {batch} can be used: {counts.told()}")
    except DataError as changed:
        _store(context, validation.refused(batch, known.sha256, known.rows, str(changed)), before)
        context.ledger.refuse(known, str(changed))
        raise
    told = validation.report(
        batch,
        known.sha256,
        judged,
        {name: len(values) for name, values in fields(with_extra(raw)[UNKNOWN]).items()},
        implausible(judged.filter(pl.col("broken_rule").is_null())),
        _repeated(context, known, judged),
        before,
        validation.Sufficient(context.settings.min_batch_rows, context.settings.min_batch_states),
    )
    rows.write(context.store, rows.quarantine_key(batch), judged.filter(pl.col("broken_rule") != DUPLICATE))
    _store(context, told, before)
    context.ledger.set_validated(known, counts.valid, counts.duplicates, counts.rules)
    counted = {name: told[name] for name in ("rows", "valid", "quarantined", "duplicates", "rules")}
    return {**counted, "report": rows.report_key(batch, "html"), "summary": told["told"]}


def _store(context: Context, told: dict[str, Any], before: list[dict[str, Any]]) -> None:
    batch = told["batch"]
    context.store.put(rows.report_key(batch, "json"), json.dumps(told, indent=1).encode())
    context.store.put(rows.report_key(batch, "html"), validation.page(told, before).encode())


def _reports(context: Context, batch: int) -> list[dict[str, Any]]:
    """The reports on all other batches with valid rows."""
    keys = [key for key in context.store.keys(rows.REPORTS) if key.endswith(".json")]
    others = [json.loads(context.store.get(key)) for key in keys if key != rows.report_key(batch, "json")]
    return [other for other in others if other["valid"]]


def _repeated(context: Context, known: Batch, judged: pl.DataFrame) -> int:
    """How many valid rows are in another batch too; of a batch, eight bytes for each row are kept to know it."""
    text = judged.filter(pl.col("broken_rule").is_null()).select(
        pl.concat_str([pl.col(name).cast(pl.String).fill_null("") for name in RAW_SCHEMA], separator="|")
    )
    prints = pl.Series(
        "fingerprint", [int.from_bytes(blake2b(row.encode(), digest_size=8).digest()) for row in text.to_series()],
        pl.UInt64,
    )  # fmt: skip
    own = rows.fingerprints_key(known.batch_number)
    rows.write(context.store, own, prints.to_frame())
    others = [rows.read(context.store, key) for key in context.store.keys(rows.FINGERPRINTS) if key != own]
    return int(prints.is_in(pl.concat(others)["fingerprint"].implode()).sum()) if others else 0
