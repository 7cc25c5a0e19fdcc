"""The page of a decision: drift per column with bar charts, errors of the champion, and the thresholds."""

from __future__ import annotations

from pipeline.decision import drift
from pipeline.decision.document import DecisionDocument
from pipeline.decision.evidence import MIN_SEGMENT_ROWS
from pipeline.reports import html


def render(document: DecisionDocument) -> str:
    """The page of a decision."""
    columns = {column["column"]: column["shares"] for column in document["columns"]}
    plotted = [name for name in columns if name in drift.BINS] + [name for name in columns if name == "status"]
    champion = document["champion"]
    return html.render(
        "decision.html.j2",
        title=f"Batch {document['batch']}: {document['decision']}",
        summary=document["reason"],
        document=document,
        charts=[(name, columns[name]) for name in plotted],
        segments=[part for part in champion["by_value"] if part["rows"] >= MIN_SEGMENT_ROWS] if champion else [],
    )
