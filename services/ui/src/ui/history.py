"""Page: what happened to each batch, why, and how the models' errors moved."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from ui.notices import trouble
from ui.predictor import Json, Predictor, PredictorError, sentence

NEWEST = 12  # batches told in full; older ones are in the table
MEASURES = {"mae": "MAE", "rmse": "RMSE", "r2": "R²", "mape": "MAPE"}


def show(predictor: Predictor) -> None:
    """Figures, charts, the newest batches in full, and all of them as a table."""
    st.title("What happened to each batch")
    try:
        told = predictor.history()
    except PredictorError as error:
        trouble(error)
        return
    entries, gaps = told["batches"], told["gaps"]
    if not entries:
        st.info(
            "No batch has been received yet: start the run of `house_price_pipeline` in Airflow.",
            icon=":material/hourglass_empty:",
        )
        return
    if gaps:
        numbers = ", ".join(map(str, gaps))
        st.warning(
            f"Never received: batch {numbers}. At the end of data the pipeline restarts the data API and drains it "
            "again, once; what is missing after that was lost again, or cannot be read.",
            icon=":material/warning:",
        )
    _figures(entries)
    errors, rows = st.columns(2)
    with errors:
        _error_chart(entries)
    with rows:
        _rows_chart(entries)
    st.subheader("Newest first")
    for entry in reversed(entries[-NEWEST:]):
        _card(entry)
    with st.expander(f"All {len(entries)} as a table"):
        _table(entries)
    _champions(told.get("champions", []))
    _live_errors(told.get("live_errors", []))


def _batches(entries: list[Json]) -> list[Json]:
    """One entry per batch: one that led to several trainings has several in the history."""
    return list({(entry["batch_number"], entry["sha256"]): entry for entry in entries}.values())


def _figures(entries: list[Json]) -> None:
    batches = _batches(entries)
    columns = st.columns(4)
    columns[0].metric("Batches", len(batches))
    columns[1].metric("Listings received", f"{sum(batch['rows'] for batch in batches):,}")
    columns[2].metric("Models trained", sum(entry["run_id"] is not None for entry in entries))
    columns[3].metric("Promoted", sum(entry["promoted"] is True for entry in entries))


def _error_chart(entries: list[Json]) -> None:
    """Challengers' and champions' error on the common holdout, per registered version."""
    st.markdown("**Mean absolute error on the holdout, by version**")
    judged = [entry for entry in entries if entry["version"] is not None and entry["holdout_metrics"]]
    points = [
        {
            "version": int(entry["version"]),
            "model": model,
            "mae": entry["holdout_metrics"][model]["mae"],
            "verdict": "promoted" if entry["promoted"] else "rejected",
        }
        for entry in judged
        for model in ("challenger", "champion")
        if entry["holdout_metrics"].get(model)
    ]
    if not points:
        st.caption("No model has been judged yet.")
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
        for kind, column in (("valid", "valid"), ("set aside", "quarantined"), ("repeated", "duplicates"))
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
                scale=alt.Scale(domain=["valid", "set aside", "repeated"], range=["#2f6db5", "#e08a2e", "#b0b7c3"]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["batch", "kind", alt.Tooltip("rows", format=",")],
        )
        .properties(height=300)
    )
    st.altair_chart(chart, width="stretch")


def _card(entry: Json) -> None:
    """One batch: what came, what was decided, what was trained, and what became of the model."""
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        left.markdown(f"**Batch {entry['batch_number']}** &nbsp; {_badges(entry)}")
        right.caption(_moment(entry["received_at"]), text_alignment="right")
        st.markdown(f"{entry['rows']:,} listings{_set_aside(entry)}")
        if entry["reason"]:
            st.markdown(f"**Decision.** {_plain(sentence(entry['reason']))}")
            _evidence(entry)
        if entry["training_metrics"]:
            st.markdown(f"**Training** on {entry['training_rows']:,} listings. {_scores(entry['training_metrics'])}")
        if entry["verdict"]:
            st.markdown(f"**Verdict on version {entry['version']}.** {_plain(sentence(entry['verdict']))}")


def _evidence(entry: Json) -> None:
    """What the decision looked at; plots and errors per segment are in MLflow."""
    evidence = entry.get("evidence") or {}
    if not evidence.get("columns"):
        return
    with st.expander("Evidence"):
        champion = evidence["champion"]
        if champion["mae"] is not None:
            holdout = f", ${champion['holdout_mae']:,.0f} on its holdout" if champion["holdout_mae"] else ""
            st.markdown(
                f"Champion version {champion['version']}, trained on {champion['rows']:,} listings: "
                + _plain(f"MAE ${champion['mae']:,.0f} on this batch{holdout}.")
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
                "KS": st.column_config.NumberColumn(format="%.2f", help="Distance of Kolmogorov and Smirnov"),
                "Unseen": st.column_config.NumberColumn(
                    format="%.1f %%", help="Rows of categories new to the champion"
                ),
            },
        )
        st.caption(f"Whole, with plots: `decision.html` of MLflow run {evidence.get('run_id', 'unknown')}")


def _champions(moves: list[Json]) -> None:
    """Every move of the champion's alias."""
    if not moves:
        return
    st.subheader("Champions")
    st.dataframe(
        [
            {
                "When": _moment(move["at"]),
                "Version": move["version"],
                "Instead of": move["before"],
                "By": move["kind"],
                "Why": move["reason"],
            }
            for move in reversed(moves)
        ],
        hide_index=True,
        column_config={"Why": st.column_config.TextColumn(width="large")},
    )


def _live_errors(errors: list[Json]) -> None:
    """How far prices were from the true ones that callers told later."""
    if not errors:
        return
    st.subheader("Live accuracy")
    st.dataframe(
        [
            {
                "Version": error["model_version"],
                "True prices": error["count"],
                "MAE": error["mae"],
                "Median error": 100 * error["median_ape"],
                "Inside the range": None if error["coverage"] is None else 100 * error["coverage"],
            }
            for error in reversed(errors)
        ],
        hide_index=True,
        column_config={
            "True prices": st.column_config.NumberColumn(format="localized", help="told by `POST /feedback`"),
            "MAE": st.column_config.NumberColumn(format="dollar"),
            "Median error": st.column_config.NumberColumn(format="%.1f %%"),
            "Inside the range": st.column_config.NumberColumn(format="%.1f %%", help="80 % is what it is made for"),
        },
    )


def _set_aside(entry: Json) -> str:
    rules = [f"{count:,} for {_plain(rule)}" for rule, count in (entry["quarantine"] or {}).items() if count]
    return f"; set aside by validation: {', '.join(rules)}" if rules else ""


def _badges(entry: Json) -> str:
    if entry["decision"] is None:
        return f":gray-badge[{entry['state']}]"
    badges = ":blue-badge[train]" if entry["decision"] == "train" else ":gray-badge[skip]"
    if entry["promoted"] is not None:
        badges += " :green-badge[promoted]" if entry["promoted"] else " :orange-badge[rejected]"
    return badges


def _scores(metrics: Json) -> str:
    """Test scores in a line; the other splits are in MLflow."""
    scores = metrics.get("test", {})
    told = []
    for measure, name in MEASURES.items():
        if (value := scores.get(measure)) is not None:
            told.append(f"{name} {_plain(f'${value:,.0f}') if measure in ('mae', 'rmse') else f'{value:.3f}'}")
    return "On the test split: " + ", ".join(told) + "." if told else ""


def _table(entries: list[Json]) -> None:
    st.dataframe(
        [_row(entry) for entry in reversed(entries)],
        hide_index=True,
        column_config={
            "Listings": st.column_config.NumberColumn(format="localized"),
            "Set aside": st.column_config.NumberColumn(format="localized"),
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
        "Set aside": entry["quarantined"],
        "Decision": entry["decision"] or entry["state"],
        "Reason": entry["reason"],
        "Version": entry["version"],
        "Holdout MAE": holdout.get("mae"),
        "Verdict": entry["verdict"],
    }


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"


def _plain(text: str) -> str:
    """Text in which a dollar sign is a dollar sign, not the beginning of a formula."""
    return text.replace("$", r"\$")
