"""The page of a validation report: checks, quarantined rows, column statistics, and a bar chart per column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.decision import drift
from pipeline.reports import html
from pipeline.validation.record import ValidationReport

_FIGURES = ["nulls", "distinct", "min", "p01", "median", "p99", "max"]


def render(report: ValidationReport, others: Sequence[ValidationReport]) -> str:
    """The page, with the distributions of the batch next to those of the other batches."""
    shares = {
        name: _shares(name, counts, [other["profile"][name] for other in others])
        for name, counts in report["profile"].items()
    }
    return html.render(
        "validation.html.j2",
        title=f"Batch {report['batch']}",
        summary=report["told"],
        report=report,
        figures=_FIGURES,
        shares=shares,
        others=len(others),
    )


def _shares(column: str, now: Mapping[str, int], before: Sequence[Mapping[str, int]]) -> dict[str, tuple[float, float]]:
    """Shares of rows before and now. Bins are in their order, categories by frequency."""
    present = {name for counts in (now, *before) for name in counts}
    if column in drift.BINS:
        names = [name for name in drift.bin_names(column) if name in present]
    else:
        names = sorted(present, key=lambda name: (-now.get(name, 0), name))
    past = {name: sum(counts.get(name, 0) for counts in before) for name in names}
    total_past, total_now = sum(past.values()) or 1, sum(now.values()) or 1
    return {name: (past[name] / total_past, now.get(name, 0) / total_now) for name in names}
