"""Stage 2: check every row. A row is valid, a duplicate, or quarantined with the first rule that it breaks."""

from __future__ import annotations

import polars as pl

from core.errors import DataError
from core.stores import layout
from pipeline import rows
from pipeline.context import Context
from pipeline.ingest.body import UNKNOWN, fields, with_extra
from pipeline.outcome import Outcome
from pipeline.reports import validation_page
from pipeline.validation import report
from pipeline.validation.archive import other_reports, store_report
from pipeline.validation.duplicates import count_repeated
from pipeline.validation.row_checks import check_rows, implausible
from pipeline.validation.row_rules import DUPLICATE


class ValidateOutcome(Outcome):
    """Row counts, as in `report.Counts`, and the report's key in the object store."""

    rows: int
    valid: int
    quarantined: int
    duplicates: int
    rules: dict[str, int]
    report: str


def run(context: Context, batch: int) -> ValidateOutcome:
    """Check the rows of a stored batch, and report on them.

    Raises:
        DataError: the batch lacks columns of the contract, or has no valid row. The ledger then notes that the batch
            is quarantined as a whole.
    """
    entry = context.ledger.batch(batch)
    raw = rows.read(context.store, entry.raw_key)  # unchecked
    others = other_reports(context.store, batch)
    try:
        checked = check_rows(raw)
        counts = report.Counts.of(checked)
        if not counts.valid:
            raise DataError(f"no row of batch {batch} can be used: {counts.summary()}")
    except DataError as error:
        refusal = report.refused(batch, entry.sha256, entry.rows, str(error))
        store_report(context.store, refusal, validation_page.render(refusal, others))
        context.ledger.refuse(entry, str(error))
        raise
    valid = checked.filter(pl.col("broken_rule").is_null())
    result = report.build(
        batch,
        entry.sha256,
        checked,
        {name: len(values) for name, values in fields(with_extra(raw)[UNKNOWN]).items()},
        implausible(valid),
        count_repeated(context.store, batch, valid),
        others,
        report.TrainingMinimum(context.settings.min_batch_rows, context.settings.min_batch_states),
    )
    rows.write(context.store, layout.quarantine_key(batch), checked.filter(pl.col("broken_rule") != DUPLICATE))
    store_report(context.store, result, validation_page.render(result, others))
    context.ledger.set_validated(entry, counts.valid, counts.duplicates, counts.rules)
    return {
        "rows": counts.rows,
        "valid": counts.valid,
        "quarantined": counts.quarantined,
        "duplicates": counts.duplicates,
        "rules": counts.rules,
        "report": layout.report_key(batch, "html"),
        "summary": result["told"],
    }
