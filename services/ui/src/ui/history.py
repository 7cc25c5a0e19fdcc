"""The page `History`: the outcome of each batch with its reason, and the errors of the models."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from ui.notices import trouble
from ui.predictor import Json, Predictor, PredictorError, sentence
from ui.words import plain

NEWEST = 12  # batches shown in detail; older ones are in the table only
MEASURES = {"mae": "MAE", "rmse": "RMSE", "r2": "R²", "mape": "MAPE"}


def show(predictor: Predictor) -> None:
    """Show figures, charts, the newest batches in detail, and all batches in a table."""
    st.title("History of the batches")
    try:
        answer = predictor.history()
    except PredictorError as error:
        trouble(error)
        return
    entries, gaps = answer["batches"], answer["gaps"]
    if not entries:
        st.info(
            "No batch has been received yet: start a run of `house_price_pipeline` in Airflow.",
            icon=":material/hourglass_empty:",
        )
        return
    if gaps:
        numbers = ", ".join(map(str, gaps))
        st.warning(
            f"Missing batches: {numbers}. At the end of the data, the pipeline restarts the data API and gets them "
            "again. A batch that is missing after a complete pass is not in the data API, or its content is refused.",
            icon=":material/warning:",
        )
    _figures(entries)
    errors, rows = st.columns(2)
    with errors:
        _error_chart(entries)
    with rows:
        _rows_chart(entries)
    st.header("Newest first")
    for entry in reversed(entries[-NEWEST:]):
        _card(entry)
    with st.expander(f"Table of all {len(entries)} entries"):
        _table(entries)
    _champions(answer.get("champions", []))
    _live_errors(answer.get("live_errors", []))
    _invalid_prices(answer.get("invalid_prices", []))


def _batches(entries: list[Json]) -> list[Json]:
    """One entry per batch. The history has several entries for a batch with several trainings."""
    return list({(entry["batch_number"], entry["sha256"]): entry for entry in entries}.values())


def _figures(entries: list[Json]) -> None:
    batches = _batches(entries)
    columns = st.columns(4)
    columns[0].metric("Batches", len(batches))
    columns[1].metric("Listings received", f"{sum(batch['rows'] for batch in batches):,}")
    columns[2].metric("Models trained", sum(entry["run_id"] is not None for entry in entries))
    columns[3].metric("Promoted", sum(entry["promoted"] is True for entry in entries))


def _error_chart(entries: list[Json]) -> None:
    """Chart the errors of challengers and champions on the common holdout, by registered version."""
    st.markdown("**Mean absolute error on the holdout, by version**")
    evaluated = [entry for entry in entries if entry["version"] is not None and entry["holdout_metrics"]]
    points = [
        {
            "version": int(entry["version"]),
            "model": model,
            "mae": entry["holdout_metrics"][model]["mae"],
            "verdict": "promoted" if entry["promoted"] else "rejected",
        }
        for entry in evaluated
        for model in ("challenger", "champion")
        if entry["holdout_metrics"].get(model)
    ]
    if not points:
        st.caption("No model has been evaluated yet.")
        return
    chart = (
        alt.Chart(pd.DataFrame(points))
        .mark_line(point=alt.OverlayMarkDef(size=70, filled=True))
        .encode(
            x=alt.X("version:O", title="Model version", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("mae:Q", title=None, axis=alt.Axis(format="$,.0f"), scale=alt.Scale(zero=True)),
            color=alt.Color(
                "model:N",
                title=None,
                scale=alt.Scale(domain=["challenger", "champion"], range=["#2f6db5", "#b0b7c3"]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["version", "model", alt.Tooltip("mae", format="$,.0f", title="MAE"), "verdict"],
        )
        .properties(height=300)
    )
    st.altair_chart(chart, width="stretch")


def _rows_chart(entries: list[Json]) -> None:
    st.markdown("**Listings by batch**")
    points = [
        {"batch": batch["batch_number"], "kind": kind, "rows": batch[column] or 0}
        for batch in _batches(entries)
        for kind, column in (("valid", "valid"), ("quarantined", "quarantined"), ("duplicate", "duplicates"))
    ]
    chart = (
        alt.Chart(pd.DataFrame(points))
        .mark_bar()
        .encode(
            x=alt.X("batch:O", title="Batch", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("sum(rows):Q", title=None, axis=alt.Axis(format=",.0f")),
            color=alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=["valid", "quarantined", "duplicate"], range=["#2f6db5", "#e08a2e", "#b0b7c3"]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["batch", "kind", alt.Tooltip("rows", format=",")],
        )
        .properties(height=300)
    )
    st.altair_chart(chart, width="stretch")


def _card(entry: Json) -> None:
    """Show one batch: rows, decision, training, and the verdict on the model."""
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        left.markdown(f"**Batch {entry['batch_number']}** &nbsp; {_badges(entry)}")
        right.caption(_moment(entry["received_at"]), text_alignment="right")
        st.markdown(f"{entry['rows']:,} listings{_quarantined(entry)}")
        if entry["reason"]:
            st.markdown(f"**Decision.** {plain(sentence(entry['reason']))}")
            _evidence(entry)
        if entry["training_metrics"]:
            st.markdown(f"**Training** on {entry['training_rows']:,} listings. {_scores(entry['training_metrics'])}")
        if entry["verdict"]:
            st.markdown(f"**Verdict on version {entry['version']}.** {plain(sentence(entry['verdict']))}")


def _evidence(entry: Json) -> None:
    """Show the evidence of the decision. Plots and errors per segment are in MLflow."""
    evidence = entry.get("evidence") or {}
    if not evidence.get("columns"):
        return
    with st.expander("Evidence"):
        champion = evidence["champion"]
        if champion["mae"] is not None:
            holdout = f", ${champion['holdout_mae']:,.0f} on its holdout" if champion["holdout_mae"] else ""
            st.markdown(
                f"Champion version {champion['version']}, trained on {champion['rows']:,} listings: "
                + plain(f"MAE ${champion['mae']:,.0f} on this batch{holdout}.")
            )
        st.dataframe(
            [
                {
                    "Column": column["column"],
                    "PSI": column["psi"],
                    "KS": column["ks"],
                    "Unseen": None if column["unseen"] is None else 100 * column["unseen"],
                    "Moved": column["moved"],
                }
                for column in evidence["columns"]
            ],
            hide_index=True,
            column_config={
                "PSI": st.column_config.NumberColumn(format="%.2f", help="Population stability index"),
                "KS": st.column_config.NumberColumn(format="%.2f", help="Kolmogorov-Smirnov distance"),
                "Unseen": st.column_config.NumberColumn(
                    format="%.1f %%", help="Rows with categories that the champion has not seen"
                ),
            },
        )
        st.caption(f"All evidence, with plots: `decision.html` of MLflow run {evidence.get('run_id', 'unknown')}")


def _champions(moves: list[Json]) -> None:
    """Show every move of the champion's alias."""
    if not moves:
        return
    st.header("Champions")
    st.dataframe(
        [
            {
                "When": _moment(move["at"]),
                "Version": move["version"],
                "Replaces": move["before"],
                "By": move["kind"],
                "Why": move["reason"],
            }
            for move in reversed(moves)
        ],
        hide_index=True,
        column_config={"Why": st.column_config.TextColumn(width="large")},
    )


def _live_errors(errors: list[Json]) -> None:
    """Show the errors of served prices against the true prices that callers sent as feedback."""
    if not errors:
        return
    st.header("Live accuracy")
    st.dataframe(
        [
            {
                "Version": error["model_version"],
                "True prices": error["count"],
                "MAE": error["mae"],
                "Median error": 100 * error["median_ape"],
                "In the interval": None if error["coverage"] is None else 100 * error["coverage"],
            }
            for error in reversed(errors)
        ],
        hide_index=True,
        column_config={
            "True prices": st.column_config.NumberColumn(
                format="localized", help="Sent on the page Price, and by callers to `POST /feedback`"
            ),
            "MAE": st.column_config.NumberColumn(format="dollar"),
            "Median error": st.column_config.NumberColumn(format="%.1f %%"),
            "In the interval": st.column_config.NumberColumn(format="%.1f %%", help="The target is 80 %"),
        },
    )


def _invalid_prices(counts: list[Json]) -> None:
    """Warn of rows that the figures leave out. Answers of an earlier release have no such counts."""
    rows = [f"{count['count']:,} in `{count['source']}`" for count in counts if count["count"]]
    if rows:
        st.warning(
            f"Rows of the ledger with an impossible price: {', '.join(rows)}. No figure on this page counts them. The "
            "runbook `InvalidPrices` says how to find and delete them.",
            icon=":material/warning:",
        )


def _quarantined(entry: Json) -> str:
    rules = [f"{count:,} for {plain(rule)}" for rule, count in (entry["quarantine"] or {}).items() if count]
    return f"; quarantined by validation: {', '.join(rules)}" if rules else ""


def _badges(entry: Json) -> str:
    if entry["decision"] is None:
        return f":gray-badge[{entry['state']}]"
    badges = ":blue-badge[train]" if entry["decision"] == "train" else ":gray-badge[skip]"
    if entry["promoted"] is not None:
        badges += " :green-badge[promoted]" if entry["promoted"] else " :orange-badge[rejected]"
    return badges


def _scores(metrics: Json) -> str:
    """The test scores as a sentence. The scores of the other splits are in MLflow."""
    scores = metrics.get("test", {})
    values = []
    for measure, name in MEASURES.items():
        if (value := scores.get(measure)) is not None:
            values.append(f"{name} {plain(f'${value:,.0f}') if measure in ('mae', 'rmse') else f'{value:.3f}'}")
    return "On the test split: " + ", ".join(values) + "." if values else ""


def _table(entries: list[Json]) -> None:
    st.dataframe(
        [_row(entry) for entry in reversed(entries)],
        hide_index=True,
        column_config={
            "Listings": st.column_config.NumberColumn(format="localized"),
            "Quarantined": st.column_config.NumberColumn(format="localized"),
            "Holdout MAE": st.column_config.NumberColumn(format="dollar"),
            "Reason": st.column_config.TextColumn(width="large"),
            "Verdict": st.column_config.TextColumn(width="large"),
        },
    )


def _row(entry: Json) -> Json:
    holdout: Any = (entry["holdout_metrics"] or {}).get("challenger") or {}
    return {
        "Batch": entry["batch_number"],
        "Received": _moment(entry["received_at"]),
        "Listings": entry["rows"],
        "Quarantined": entry["quarantined"],
        "Decision": entry["decision"] or entry["state"],
        "Reason": entry["reason"],
        "Version": entry["version"],
        "Holdout MAE": holdout.get("mae"),
        "Verdict": entry["verdict"],
    }


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
