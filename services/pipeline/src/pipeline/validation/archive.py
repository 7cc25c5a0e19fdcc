"""Stores validation reports, and reads those of other batches."""

from __future__ import annotations

import json

from core.stores import layout
from core.stores.objects import Store
from pipeline.validation.record import ValidationReport


def store_report(store: Store, report: ValidationReport, page: str) -> None:
    """Store a report as `reports/<batch>.json`, and its page as `reports/<batch>.html`."""
    batch = report["batch"]
    store.put(layout.report_key(batch, "json"), json.dumps(report, indent=1).encode())
    store.put(layout.report_key(batch, "html"), page.encode())


def other_reports(store: Store, batch: int) -> list[ValidationReport]:
    """The reports of all other batches that have valid rows."""
    own = layout.report_key(batch, "json")
    keys = [key for key in store.keys(layout.REPORTS) if key.endswith(".json") and key != own]
    reports: list[ValidationReport] = [json.loads(store.get(key)) for key in keys]
    return [report for report in reports if report["valid"]]
