"""Builds the validation report of a batch: counts, checks and column statistics, compared with the other batches.

Pure: it computes a report from checked rows and the reports of other batches. The report decides nothing. Only a check
of severity `error` means that the batch was refused; the decision to train has its own evidence.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from core.listing.schema import RAW_SCHEMA
from pipeline.decision import drift
from pipeline.validation.record import ColumnFigures, ValidationReport
from pipeline.validation.row_rules import DUPLICATE

# A check warns above these shares of rows.
MAX_NULL, MAX_QUARANTINED, MAX_DUPLICATE, MAX_IMPLAUSIBLE = 0.2, 0.05, 0.01, 0.01
# A check warns if the number of rows, or the median price, differs from that of the other batches by more than this
# factor.
VOLUME_RATIO, PRICE_RATIO = 10.0, 2.0
_QUANTILES: dict[Literal["min", "p01", "median", "p99", "max"], float] = {
    "min": 0.0,
    "p01": 0.01,
    "median": 0.5,
    "p99": 0.99,
    "max": 1.0,
}
_MAX_LISTED = 8  # categories or fields in a sentence


@dataclass(frozen=True)
class Check:
    """One check of a batch. Severity `error` refuses the batch, `warning` is for people."""

    name: str
    severity: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Counts:
    """Row counts of a batch: `rows` = `valid` + `quarantined` + `duplicates`."""

    rows: int
    valid: int
    quarantined: int
    duplicates: int
    rules: dict[str, int]  # quarantined rows per rule

    @classmethod
    def of(cls, checked: pl.DataFrame) -> Counts:
        """Count rows by their `broken_rule`."""
        rules = {str(rule): int(count) for rule, count in checked["broken_rule"].value_counts(sort=True).iter_rows()}
        valid = checked["broken_rule"].null_count()
        duplicates = rules.pop(DUPLICATE, 0)
        rules.pop("None", None)
        return cls(checked.height, valid, checked.height - valid - duplicates, duplicates, rules)

    def summary(self) -> str:
        """The counts as a sum, in words."""
        rules = ", ".join(f"{count:,} {rule}" for rule, count in self.rules.items()) or "none"
        return (
            f"{self.rows:,} rows = {self.valid:,} valid + {self.quarantined:,} quarantined ({rules})"
            f" + {self.duplicates:,} duplicates"
        )


@dataclass(frozen=True)
class TrainingMinimum:
    """The rows and states that a batch needs for a training of its own."""

    rows: int
    states: int


def refused(batch: int, sha256: str, rows: int, reason: str) -> ValidationReport:
    """The report of a batch without a usable row."""
    counts = Counts(rows, 0, rows, 0, {"refused": rows})
    return _report(batch, sha256, counts, [Check("schema", "error", False, reason)])


def build(
    batch: int,
    sha256: str,
    checked: pl.DataFrame,
    unknown: Mapping[str, int],
    implausible: Mapping[str, int],
    repeated: int,
    others: Sequence[ValidationReport],
    minimum: TrainingMinimum,
) -> ValidationReport:
    """The report of a batch with valid rows.

    Args:
        batch: number of the batch.
        sha256: hash of its content.
        checked: all its rows, with their `broken_rule`.
        unknown: rows per field that is not in the contract.
        implausible: valid rows per reason, see `row_checks.implausible`.
        repeated: valid rows that are in another batch, too.
        others: the reports of other batches with valid rows.
        minimum: requirements for a training of its own.
    """
    counts = Counts.of(checked)
    valid = checked.filter(pl.col("broken_rule").is_null())
    columns = {name: _column(checked[name]) for name in RAW_SCHEMA}
    profile = drift.profile(drift.labels(valid))
    shown = {name: drift.values_of(profile, name) for name in (*drift.BINS, *drift.CATEGORIES)}
    checks = [
        _schema(unknown),
        _nulls(columns, counts.rows),
        _duplicates(counts, repeated),
        _share("ranges", counts.rules, counts.rows, MAX_QUARANTINED, "quarantined"),
        _share("extremes", implausible, counts.valid, MAX_IMPLAUSIBLE, "implausible, but used"),
        _target(valid, others),
        _volume(counts, others),
        _categories(shown, others),
        _sufficiency(valid, minimum),
    ]
    return {
        **_report(batch, sha256, counts, checks, columns, shown),
        "implausible": dict(implausible),
        "unknown_fields": dict(unknown),
        "repeated_from_other_batches": repeated,
        "median_price": _number(valid["price"].median()),
    }


def _report(
    batch: int,
    sha256: str,
    counts: Counts,
    checks: list[Check],
    columns: dict[str, ColumnFigures] | None = None,
    profile: dict[str, dict[str, int]] | None = None,
) -> ValidationReport:
    summary = f"batch {batch}: {counts.summary()}"
    warned = [check.name for check in checks if not check.passed]
    return {
        "batch": batch,
        "sha256": sha256,
        "told": f"{summary}; look at {', '.join(warned)}" if warned else summary,
        "rows": counts.rows,
        "valid": counts.valid,
        "quarantined": counts.quarantined,
        "duplicates": counts.duplicates,
        "rules": counts.rules,
        "checks": [
            {"name": check.name, "severity": check.severity, "passed": check.passed, "told": check.message}
            for check in checks
        ],
        "columns": columns or {},
        "profile": profile or {},
    }


def _column(values: pl.Series) -> ColumnFigures:
    figures: ColumnFigures = {"nulls": values.null_count(), "distinct": values.n_unique()}
    if values.dtype == pl.Float64:
        finite = values.filter(values.is_finite())
        for name, at in _QUANTILES.items():
            figures[name] = finite.quantile(at, "nearest")
    return figures


def _schema(unknown: Mapping[str, int]) -> Check:
    message = "every field is in the contract"
    if unknown:
        message = f"fields that are not in the contract, stored separately: {_listed(unknown)}"
    return Check("schema", "warning", not unknown, message)


def _nulls(columns: Mapping[str, ColumnFigures], rows: int) -> Check:
    nulls = {name: column["nulls"] for name, column in columns.items() if column["nulls"]}
    many = any(count > MAX_NULL * rows for count in nulls.values())
    return Check("nulls", "warning", not many, f"nulls: {_listed(nulls)}" if nulls else "no value is null")


def _duplicates(counts: Counts, repeated: int) -> Check:
    message = f"{counts.duplicates:,} rows repeat a row of this batch, {repeated:,} a row of another batch"
    few = max(counts.duplicates, repeated) <= MAX_DUPLICATE * counts.rows
    return Check("duplicates", "warning", few, message)


def _share(name: str, counts: Mapping[str, int], rows: int, limit: float, kind: str) -> Check:
    message = f"{kind}: {_listed(counts)}" if counts else f"no row is {kind.split(',')[0]}"
    return Check(name, "warning", sum(counts.values()) <= limit * rows, message)


def _target(valid: pl.DataFrame, others: Sequence[ValidationReport]) -> Check:
    price = _number(valid["price"].median())
    message = f"the median price is ${price:,.0f}"
    medians = [_number(other["median_price"]) for other in others]
    if not medians:
        return Check("target", "warning", True, message)
    usual = statistics.median(medians)
    near = usual / PRICE_RATIO <= price <= usual * PRICE_RATIO
    return Check("target", "warning", near, f"{message}, that of the other batches ${usual:,.0f}")


def _volume(counts: Counts, others: Sequence[ValidationReport]) -> Check:
    if not others:
        return Check("volume", "warning", True, f"{counts.rows:,} rows; there is no other batch")
    usual = statistics.median(other["rows"] for other in others)
    near = usual / VOLUME_RATIO <= counts.rows <= usual * VOLUME_RATIO
    return Check("volume", "warning", near, f"{counts.rows:,} rows, the median of the other batches is {usual:,.0f}")


def _categories(shown: Mapping[str, Mapping[str, int]], others: Sequence[ValidationReport]) -> Check:
    if not others:
        return Check("new categories", "warning", True, "there is no other batch to compare with")
    new: dict[str, int] = {}
    for column in drift.CATEGORIES:
        seen = {value for other in others for value in other["profile"][column]}
        new |= {f"{column} {value}": count for value, count in shown[column].items() if value not in seen}
    message = f"new: {_listed(new)}" if new else "no status and no state is new"
    return Check("new categories", "warning", not new, message)


def _sufficiency(valid: pl.DataFrame, minimum: TrainingMinimum) -> Check:
    states = valid["state"].drop_nulls().n_unique()
    enough = valid.height >= minimum.rows and states >= minimum.states
    message = (
        f"{valid.height:,} valid rows from {states} states; a training of its own needs {minimum.rows:,} rows"
        f" from {minimum.states}"
    )
    return Check("sufficiency", "warning", enough, message)


def _listed(counts: Mapping[str, int]) -> str:
    names = [f"{name} ({count:,})" for name, count in counts.items()]
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0
