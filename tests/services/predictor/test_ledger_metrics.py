"""Metrics that are published from the ledger."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import REGISTRY

from core.errors import LedgerError
from predictor.record.ledger_metrics import LedgerMetrics, publish, publish_backups, publish_live_errors


def entry(number: int, state: str, rows: int, valid: int | None, **more: Any) -> dict[str, Any]:
    """An entry of the ledger's history."""
    names = ["decision", "decided_at", "trained_at", "promoted", "verdict_at", "holdout_metrics"]
    fields = {"batch_number": number, "sha256": f"{number:064}", "state": state, "rows": rows, "valid": valid}
    fields |= {
        "quarantined": None if valid is None else rows - valid,
        "duplicates": None if valid is None else 0,
        "received_at": f"2026-11-24T10:0{number}:00+00:00",
    }
    return fields | dict.fromkeys(names) | more


def scores(mae: float) -> dict[str, float]:
    return {"mae": mae, "rmse": mae * 2, "r2": 0.5, "mape": 0.1}


HISTORY = [
    entry(0, "used", 100, 90, decision="train", promoted=True, verdict_at="2026-11-24T11:00:00+00:00")
    | {"holdout_metrics": {"challenger": scores(300.0), "champion": None}},
    entry(1, "used", 50, 50, decision="train", promoted=False, verdict_at="2026-11-24T12:00:00+00:00")
    | {"holdout_metrics": {"challenger": scores(250.0), "champion": scores(240.0)}},
    entry(1, "used", 50, 50, decision="train", promoted=True, verdict_at="2026-11-24T11:30:00+00:00")
    | {"holdout_metrics": {"challenger": scores(240.0), "champion": scores(300.0)}},
    entry(2, "split", 8, 7, decision="skip") | {"quarantined": 0, "duplicates": 1},
    entry(3, "stored", 9, None),
    entry(4, "received", 0, None),
]

LIVE = [
    {"model_version": "1", "count": 3, "mae": 100.0, "median_ape": 0.1, "coverage": 0.75},
    {"model_version": "2", "count": 1, "mae": 200.0, "median_ape": 0.2, "coverage": None},
]


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_every_figure_of_the_ledger_is_published() -> None:
    publish(HISTORY)
    assert value("house_batches", state="used") == 2
    assert value("house_batches", state="stored") == 1
    assert value("house_batches", state="validated") == 0
    assert value("house_batch_rows", kind="received") == 167
    assert value("house_batch_rows", kind="clean") == 147
    assert value("house_batch_rows", kind="quarantined") == 10
    assert value("house_batch_rows", kind="duplicate") == 1
    assert value("house_undecided_batches") == 1
    assert value("house_decisions", decision="train") == 2
    assert value("house_decisions", decision="skip") == 1
    assert value("house_promotions", outcome="promoted") == 2
    assert value("house_promotions", outcome="rejected") == 1
    assert value("house_holdout_mae_dollars", model="challenger") == 250
    assert value("house_holdout_mae_dollars", model="champion") == 240
    assert value("house_holdout_rmse_dollars", model="challenger") == 500
    assert value("house_last_run_timestamp_seconds") == 1795521600


def test_all_counts_are_zero_before_the_first_run() -> None:
    publish([])
    assert value("house_batches", state="stored") == 0
    assert value("house_decisions", decision="train") == 0


@pytest.mark.parametrize("failure", [LedgerError("down"), KeyError("an entry of another release")])
def test_failure_of_the_ledger_is_a_metric_and_the_thread_goes_on(failure: Exception) -> None:
    class History:
        broken: Exception | None = None

        def read(self) -> dict[str, Any]:
            if self.broken:
                raise self.broken
            return {"batches": HISTORY, "gaps": [], "live_errors": LIVE, "invalid_prices": []}

        def last_backups(self) -> dict[str, float]:
            return {"full": 1.5e9}

    history = History()
    ledger = LedgerMetrics(history, 30)  # type: ignore[arg-type]
    ledger.refresh()
    assert value("house_ledger_up") == 1
    assert value("house_backup_last_success_timestamp_seconds", kind="full") == 1.5e9
    history.broken = failure
    ledger.refresh()
    assert value("house_ledger_up") == 0
    assert value("house_batches", state="used") == 2, "the last figures stay"
    assert value("house_live_mae_dollars", version="1") == 100.0


def test_live_errors_are_published_per_version_until_they_are_deleted() -> None:
    publish_live_errors(LIVE)
    assert value("house_feedback", version="1") == 3
    assert value("house_live_mae_dollars", version="1") == 100.0
    assert value("house_live_median_ape_ratio", version="2") == 0.2
    assert value("house_live_coverage_ratio", version="1") == 0.75
    assert value("house_live_coverage_ratio", version="2") is None, "a model without intervals has no coverage"
    publish_live_errors(LIVE[:1])
    assert value("house_live_mae_dollars", version="2") is None


def test_backup_that_never_was_has_the_time_zero() -> None:
    publish_backups({"full": 1795521600.0})
    assert value("house_backup_last_success_timestamp_seconds", kind="full") == 1795521600
    assert value("house_backup_last_success_timestamp_seconds", kind="wal") == 0
    publish_backups({})
    assert value("house_backup_last_success_timestamp_seconds", kind="full") == 0
