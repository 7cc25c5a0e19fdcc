"""Publishes figures of the ledger as metrics: batches, decisions and model quality for dashboards and alerts."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal

from prometheus_client import Gauge

from core.errors import LedgerError
from core.ledger.history import HistoryRow
from core.ledger.predictions import InvalidPricesRow, LiveErrorRow
from core.ledger.trainings import HoldoutScores
from predictor import metrics
from predictor.background_thread import BackgroundThread
from predictor.record.history import LedgerHistory

log = logging.getLogger(__name__)

STATES = ("received", "stored", "quarantined", "validated", "split", "used")
ROWS: dict[str, Literal["rows", "valid", "quarantined", "duplicates"]] = {
    "received": "rows",
    "clean": "valid",
    "quarantined": "quarantined",
    "duplicate": "duplicates",
}
BACKUPS = ("full", "wal")
MOMENTS: tuple[Literal["received_at", "decided_at", "trained_at", "verdict_at"], ...] = (
    "received_at",
    "decided_at",
    "trained_at",
    "verdict_at",
)


class LedgerMetrics(BackgroundThread):
    """Reads the ledger every `seconds`."""

    def __init__(self, history: LedgerHistory, seconds: float) -> None:
        super().__init__("ledger-metrics")
        self._history = history
        self._seconds = seconds

    def _run(self) -> None:
        while True:
            self.refresh()
            if self._stopping.wait(self._seconds):
                return

    def refresh(self) -> None:
        """Read the ledger once. If that fails, the last figures stay and `house_ledger_up` becomes 0."""
        try:
            history = self._history.read()
            publish(history["batches"])
            metrics.batch_gaps.set(len(history["gaps"]))
            publish_live_errors(history["live_errors"])
            publish_invalid_prices(history["invalid_prices"])
            publish_backups(self._history.last_backups())
            metrics.ledger_up.set(1)
        except LedgerError as error:
            metrics.ledger_up.set(0)
            log.warning("the metrics of the ledger are not updated: %s", error)
        except Exception:  # the thread must survive every content of the ledger
            metrics.ledger_up.set(0)
            log.exception("the ledger's history cannot be published as metrics")


def publish(history: Sequence[HistoryRow]) -> None:
    """Set the gauges from the ledger's history, which has one row per training of a batch."""
    batches = list({(row["batch_number"], row["sha256"]): row for row in history}.values())
    verdicts = [row for row in history if row["promoted"] is not None]
    _set_counts(metrics.batches, STATES, [row["state"] for row in batches])
    metrics.undecided.set(sum(row["decision"] is None and row["state"] != "received" for row in batches))
    _set_counts(metrics.decisions, ("train", "skip"), [row["decision"] for row in batches])
    _set_counts(
        metrics.promotions, ("promoted", "rejected"), ["promoted" if v["promoted"] else "rejected" for v in verdicts]
    )
    for kind, column in ROWS.items():
        metrics.batch_rows.labels(kind).set(sum(row[column] or 0 for row in batches))
    last = max(verdicts, key=lambda row: row["verdict_at"] or "", default=None)
    if last and last["holdout_metrics"]:
        _set_holdout(last["holdout_metrics"])
    moments = [datetime.fromisoformat(at) for row in history for moment in MOMENTS if (at := row[moment])]
    if moments:
        metrics.last_run.set(max(moments).timestamp())


def publish_live_errors(errors: Sequence[LiveErrorRow]) -> None:
    """Set the gauges of every model version with feedback. Versions whose feedback was deleted disappear."""
    gauges: dict[Literal["count", "mae", "median_ape", "coverage"], Gauge] = {
        "count": metrics.feedback,
        "mae": metrics.live_mae,
        "median_ape": metrics.live_median_ape,
        "coverage": metrics.live_coverage,
    }
    for measure, gauge in gauges.items():
        gauge.clear()
        for error in errors:
            value = error[measure]
            if value is not None:  # coverage of a model without prediction intervals
                gauge.labels(error["model_version"]).set(value)


def publish_invalid_prices(counts: Sequence[InvalidPricesRow]) -> None:
    """Set the gauge of every table with prices."""
    for row in counts:
        metrics.invalid_prices.labels(row["source"]).set(row["count"])


def publish_backups(moments: Mapping[str, float]) -> None:
    """Set the time of the last backup of every kind. 0 means never, so that an alert can tell it from no figure."""
    for kind in BACKUPS:
        metrics.last_backup.labels(kind).set(moments.get(kind, 0))


def _set_counts(gauge: Gauge, labels: Sequence[str], values: Sequence[str | None]) -> None:
    counts = Counter(values)
    for label in labels:
        gauge.labels(label).set(counts[label])


def _set_holdout(scores: HoldoutScores) -> None:
    """Set the holdout scores of challenger and champion. Before the first promotion there is no champion."""
    for model, score in (("challenger", scores.get("challenger")), ("champion", scores.get("champion"))):
        for gauge, measure in ((metrics.holdout_mae, "mae"), (metrics.holdout_rmse, "rmse")):
            value = (score or {}).get(measure)
            if value is not None:
                gauge.labels(model).set(value)
