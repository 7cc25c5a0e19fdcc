"""The report on a batch: what its rows are like, beside those of the batches before; JSON, and a page for people.

Pure: from judged rows and the reports of other batches to a report. Nothing in it decides anything but what `Check`s of
severity error say; the decision to train has evidence of its own.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from core.features import RAW_SCHEMA
from pipeline import drift, pages
from pipeline.contract import DUPLICATE

# Shares of rows over which a check warns.
MOST_NULL, MOST_QUARANTINED, MOST_DUPLICATE, MOST_IMPLAUSIBLE = 0.2, 0.05, 0.01, 0.01
# How many times more or fewer rows than the median of the batches before, and how far the median price may move.
VOLUME_RATIO, PRICE_RATIO = 10.0, 2.0
_LISTED = 8  # categories or fields named in a sentence


@dataclass(frozen=True)
class Check:
    """One question to a batch: `error` refuses it, `warning` is for a person to read."""

    name: str
    severity: str
    passed: bool
    told: str


@dataclass(frozen=True)
class Counts:
    """Where the rows of a batch went: `rows` = `valid` + `quarantined` + `duplicates`."""

    rows: int
    valid: int
    quarantined: int
    duplicates: int
    rules: dict[str, int]  # quarantined rows per rule

    @classmethod
    def of(cls, judged: pl.DataFrame) -> Counts:
        """Of rows with their `broken_rule`."""
        rules = {str(rule): int(count) for rule, count in judged["broken_rule"].value_counts(sort=True).iter_rows()}
        valid = judged["broken_rule"].null_count()
        duplicates = rules.pop(DUPLICATE, 0)
        rules.pop("None", None)
        return cls(judged.height, valid, judged.height - valid - duplicates, duplicates, rules)

    def told(self) -> str:
        """As a sum."""
        rules = ", ".join(f"{count:,} {rule}" for rule, count in self.rules.items()) or "none"
        return (
            f"{self.rows:,} rows = {self.valid:,} valid + {self.quarantined:,} quarantined ({rules})"
            f" + {self.duplicates:,} duplicates"
        )


@dataclass(frozen=True)
class Sufficient:
    """What a batch needs to be worth a training of its own."""

    rows: int
    states: int


def refused(batch: int, sha256: str, rows: int, reason: str) -> dict[str, Any]:
    """The report on a batch of which no row can be used."""
    counts = Counts(rows, 0, rows, 0, {"refused": rows})
    return _report(batch, sha256, counts, [Check("schema", "error", False, reason)])


def report(
    batch: int,
    sha256: str,
    judged: pl.DataFrame,
    unknown: Mapping[str, int],
    implausible: Mapping[str, int],
    repeated: int,
    before: Sequence[Mapping[str, Any]],
    sufficient: Sufficient,
) -> dict[str, Any]:
    """The report on judged rows.

    Args:
        batch: its number.
        sha256: of its content.
        judged: all its rows, with their `broken_rule`.
        unknown: rows per field that the contract does not know.
        implausible: valid rows per reason, see `rules.implausible`.
        repeated: valid rows that are in another batch too.
        before: the reports on other batches with valid rows.
        sufficient: what a training of its own needs.
    """
    counts = Counts.of(judged)
    valid = judged.filter(pl.col("broken_rule").is_null())
    columns = {name: _column(judged[name]) for name in RAW_SCHEMA}
    profile = drift.profile(drift.labels(valid))
    shown = {name: drift.values_of(profile, name) for name in (*drift.BINS, *drift.CATEGORIES)}
    checks = [
        _schema(unknown),
        _nulls(columns, counts.rows),
        _duplicates(counts, repeated),
        _share("ranges", counts.rules, counts.rows, MOST_QUARANTINED, "quarantined"),
        _share("extremes", implausible, counts.valid, MOST_IMPLAUSIBLE, "implausible, and used"),
        _target(valid, before),
        _volume(counts, before),
        _categories(shown, before),
        _sufficiency(valid, sufficient),
    ]
    return _report(batch, sha256, counts, checks, columns, shown) | {
        "implausible": dict(implausible), "unknown_fields": dict(unknown), "repeated_from_other_batches": repeated,
        "median_price": valid["price"].median(),
    }  # fmt: skip


def _report(
    batch: int,
    sha256: str,
    counts: Counts,
    checks: list[Check],
    columns: dict[str, dict[str, Any]] | None = None,
    profile: dict[str, dict[str, int]] | None = None,
) -> dict[str, Any]:
    told = f"batch {batch}: {counts.told()}"
    warned = [check.name for check in checks if not check.passed]
    return {
        "batch": batch,
        "sha256": sha256,
        "told": f"{told}; look at {', '.join(warned)}" if warned else told,
        **asdict(counts),
        "checks": [asdict(check) for check in checks],
        "columns": columns or {},
        "profile": profile or {},
    }


def _column(values: pl.Series) -> dict[str, Any]:
    told: dict[str, Any] = {"nulls": values.null_count(), "distinct": values.n_unique()}
    if values.dtype == pl.Float64:
        ends = (("min", 0.0), ("p01", 0.01), ("median", 0.5), ("p99", 0.99), ("max", 1.0))
        finite = values.filter(values.is_finite())
        told |= {name: finite.quantile(at, "nearest") for name, at in ends}
    return told


def _schema(unknown: Mapping[str, int]) -> Check:
    told = "every field is of the contract"
    if unknown:
        told = f"fields that the contract does not know, kept beside: {_listed(unknown)}"
    return Check("schema", "warning", not unknown, told)


def _nulls(columns: Mapping[str, Mapping[str, Any]], rows: int) -> Check:
    found = {name: column["nulls"] for name, column in columns.items() if column["nulls"]}
    many = any(count > MOST_NULL * rows for count in found.values())
    return Check("nulls", "warning", not many, f"nulls: {_listed(found)}" if found else "no value is null")


def _duplicates(counts: Counts, repeated: int) -> Check:
    told = f"{counts.duplicates:,} rows repeat another one of the batch, {repeated:,} one of another batch"
    few = max(counts.duplicates, repeated) <= MOST_DUPLICATE * counts.rows
    return Check("duplicates", "warning", few, told)


def _share(name: str, found: Mapping[str, int], rows: int, most: float, kind: str) -> Check:
    told = f"{kind}: {_listed(found)}" if found else f"no row is {kind.split(',')[0]}"
    return Check(name, "warning", sum(found.values()) <= most * rows, told)


def _target(valid: pl.DataFrame, before: Sequence[Mapping[str, Any]]) -> Check:
    now = _number(valid["price"].median())
    told = f"the median price is ${now:,.0f}"
    known = [_number(one["median_price"]) for one in before]
    if not known:
        return Check("target", "warning", True, told)
    then = statistics.median(known)
    near = then / PRICE_RATIO <= now <= then * PRICE_RATIO
    return Check("target", "warning", near, f"{told}, of the batches before ${then:,.0f}")


def _volume(counts: Counts, before: Sequence[Mapping[str, Any]]) -> Check:
    if not before:
        return Check("volume", "warning", True, f"{counts.rows:,} rows; there is no other batch")
    usual = statistics.median(one["rows"] for one in before)
    near = usual / VOLUME_RATIO <= counts.rows <= usual * VOLUME_RATIO
    return Check("volume", "warning", near, f"{counts.rows:,} rows, the median of the batches before is {usual:,.0f}")


def _categories(shown: Mapping[str, Mapping[str, int]], before: Sequence[Mapping[str, Any]]) -> Check:
    new: dict[str, int] = {}
    for column in drift.CATEGORIES if before else ():
        known = {value for one in before for value in one["profile"][column]}
        new |= {f"{column} {value}": count for value, count in shown[column].items() if value not in known}
    told = f"new: {_listed(new)}" if new else "no status and no state is new" if before else "all are new"
    return Check("new categories", "warning", not new, told)


def _sufficiency(valid: pl.DataFrame, needed: Sufficient) -> Check:
    states = valid["state"].drop_nulls().n_unique()
    enough = valid.height >= needed.rows and states >= needed.states
    told = (
        f"{valid.height:,} valid rows of {states} states; a training of its own needs {needed.rows:,}"
        f" of {needed.states}"
    )
    return Check("sufficiency", "warning", enough, told)


def _listed(counts: Mapping[str, int]) -> str:
    names = [f"{name} ({count:,})" for name, count in counts.items()]
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def page(told: Mapping[str, Any], before: Sequence[Mapping[str, Any]]) -> str:
    """The report as HTML, its distributions beside those of the batches before."""
    checks = told["checks"]
    verdicts = [[check["name"], "passed" if check["passed"] else check["severity"], check["told"]] for check in checks]
    parts = [
        pages.section(
            "Checks", pages.table(["check", "", "found"], verdicts, (not check["passed"] for check in checks))
        ),
        pages.section(
            "Quarantined rows",
            pages.table(["rule", "rows"], [[rule, f"{count:,}"] for rule, count in told["rules"].items()])
            if told["rules"]
            else "<p>None.</p>",
        ),
    ]
    if told["columns"]:
        figures = ("nulls", "distinct", "min", "p01", "median", "p99", "max")
        lines = [
            [name, *("" if column.get(one) is None else f"{column[one]:,.10g}" for one in figures)]
            for name, column in told["columns"].items()
        ]
        parts.append(pages.section("Values as received", pages.table(["column", *figures], lines)))
        plots = [
            pages.bars(name, _shares(name, counts, [one["profile"][name] for one in before]))
            for name, counts in told["profile"].items()
        ]
        parts.append(
            pages.section(
                f"Valid rows (blue), and those of all other batches so far: {len(before)} (grey)",
                f'<div class="plots">{"".join(plots)}</div>',
            )
        )
    return pages.document(f"Batch {told['batch']}", told["told"], parts)


def _shares(column: str, now: Mapping[str, int], before: Sequence[Mapping[str, int]]) -> dict[str, tuple[float, float]]:
    """Shares before and now: of a number in the order of its bins, of a category the most frequent first."""
    found = {name for counts in (now, *before) for name in counts}
    if column in drift.BINS:
        names = [name for name in drift.bins(column) if name in found]
    else:
        names = sorted(found, key=lambda name: (-now.get(name, 0), name))
    past = {name: sum(counts.get(name, 0) for counts in before) for name in names}
    all_past, all_now = sum(past.values()) or 1, sum(now.values()) or 1
    return {name: (past[name] / all_past, now.get(name, 0) / all_now) for name in names}
