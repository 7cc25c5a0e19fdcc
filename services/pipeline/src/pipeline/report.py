"""Stage 8: what became of a batch, on one page: decision, training, verdict, and who is champion now."""

from __future__ import annotations

from typing import Any

from pipeline import pages
from pipeline.context import Context
from pipeline.tracking import REPORT, Tracking


def run(context: Context, batch: int) -> dict[str, Any]:
    """Write the page of a batch to the MLflow run of its decision; done again it replaces the one before."""
    tracking = Tracking(context.settings, context.registry)
    known = context.ledger.batch(batch)
    row = next(r for r in reversed(context.ledger.history()) if r["sha256"] == known.sha256[:12])
    champion = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    evaluation = tracking.find_evaluation(row["run_id"]) if row["run_id"] else None
    lead = told(row, champion.version if champion else None)
    decided_in = (row["evidence"] or {}).get("run_id")
    if decided_in:
        tracking.log_page(decided_in, REPORT, page(row, evaluation, lead))
    return {"champion": champion.version if champion else None, "summary": lead}


def told(row: dict[str, Any], champion: str | None) -> str:
    """What became of a batch, in a sentence; `row` is its last one in the ledger's history."""
    then = f"the champion is version {champion}" if champion else "there is no champion"
    if row["promoted"] is None:
        return f"{row['decision']}: {row['reason']}; {then}"
    return f"version {row['version']} {'promoted' if row['promoted'] else 'rejected'}: {row['verdict']}; {then}"


def page(row: dict[str, Any], evaluation: dict[str, Any] | None, lead: str) -> str:
    """The page of a batch."""
    counts = {"received": row["rows"], "clean": row["valid"], "quarantined": row["quarantined"]}
    counts |= {"duplicates": row["duplicates"]}
    parts = [
        pages.section("Rows", pages.table(["", "rows"], [[name, f"{count or 0:,}"] for name, count in counts.items()])),
        pages.section("Decision", f"<p>{pages.text(row['reason'] or 'none')}</p>"),
    ]
    if evaluation:
        parts.append(pages.section("Verdict", f"<p>{pages.text(evaluation['reason'])}</p>", _scores(evaluation)))
        if evaluation.get("guarded_segments"):
            parts.append(pages.section("Segments of the gate", _segments(evaluation["guarded_segments"])))
        parts.append(pages.section("Challenger per segment", _per_segment(evaluation["challenger_segments"])))
    return pages.document(f"Batch {row['batch_number']}: report", lead, parts)


def _scores(evaluation: dict[str, Any]) -> str:
    models = {name: evaluation[name] for name in ("challenger", "champion") if evaluation[name]}
    lines = [
        [name, _dollars(found["mae"]), _dollars(found["rmse"]), f"{found['r2']:.3f}", f"{found['mape']:.3f}"]
        for name, found in models.items()
    ]
    return pages.table([f"on {evaluation['rows']:,} rows", "MAE", "RMSE", "R2", "MAPE"], lines)


def _segments(parts: list[dict[str, Any]]) -> str:
    lines = [
        [
            part["segment"],
            f"{part['rows']:,}",
            _dollars(part["champion_mae"]),
            _dollars(part["challenger_mae"]),
            f"{part['challenger_mae'] / part['champion_mae'] - 1:+.1%}" if part["champion_mae"] else "",
        ]
        for part in parts
    ]
    worse = [part["challenger_mae"] > part["champion_mae"] for part in parts]
    return pages.table(["segment", "rows", "MAE of the champion", "of the challenger", "change"], lines, worse)


def _per_segment(segments: dict[str, dict[str, Any]]) -> str:
    lines = [[name, f"{part['rows']:,}", _dollars(part["mae"]), _dollars(part["rmse"])]
             for name, part in segments.items()]  # fmt: skip
    return pages.table(["segment", "rows", "MAE", "RMSE"], lines)


def _dollars(value: float) -> str:
    return f"${value:,.0f}"
