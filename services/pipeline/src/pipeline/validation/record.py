"""The record of a validation, as it is stored in the report of a batch."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class CheckRecord(TypedDict):
    """A check in a report. `told` is its message."""

    name: str
    severity: str
    passed: bool
    told: str


class ColumnFigures(TypedDict):
    """Statistics of a column. Only a column of numbers has quantiles; they are None without a finite number."""

    nulls: int
    distinct: int
    min: NotRequired[float | None]
    p01: NotRequired[float | None]
    median: NotRequired[float | None]
    p99: NotRequired[float | None]
    max: NotRequired[float | None]


class ValidationReport(TypedDict):
    """The report of a batch, as it is stored. The optional fields are absent if the batch was refused."""

    batch: int
    sha256: str
    told: str  # summary in one sentence
    rows: int
    valid: int
    quarantined: int
    duplicates: int
    rules: dict[str, int]
    checks: list[CheckRecord]
    columns: dict[str, ColumnFigures]
    profile: dict[str, dict[str, int]]
    implausible: NotRequired[dict[str, int]]
    unknown_fields: NotRequired[dict[str, int]]
    repeated_from_other_batches: NotRequired[int]
    median_price: NotRequired[float | None]
