"""The page `History`: the outcome of each batch with its reason, and the errors of the models."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from ui import charts, tables
from ui.language import _, dollars, number, percent
from ui.notices import trouble
from ui.predictor import Json, Predictor, PredictorError, sentence
from ui.words import plain

NEWEST = 12  # batches shown in detail; older ones are in the table only
MEASURES = {"mae": "MAE", "rmse": "RMSE", "r2": "R²", "mape": "MAPE"}


def show(predictor: Predictor) -> None:
    """Show figures, charts, the newest batches in detail, and all batches in a table."""
    st.title(_("History of the batches"))
    try:
        answer = predictor.history()
    except PredictorError as error:
        trouble(error)
        return
    entries, gaps = answer["batches"], answer["gaps"]
    if not entries:
        st.info(
            _("No batch has been received yet: start a run of `house_price_pipeline` in Airflow."),
            icon=":material/hourglass_empty:",
        )
        return
    if gaps:
        numbers = ", ".join(map(str, gaps))
        st.warning(
            _(
                "Missing batches: {numbers}. At the end of the data, the pipeline restarts the data API and gets them "
                "again. A batch that is missing after a complete pass is not in the data API, or its content is "
                "refused.",
                numbers=numbers,
            ),
            icon=":material/warning:",
        )
    _figures(entries)
    errors, rows = st.columns(2)
    with errors:
        _error_chart(entries)
    with rows:
        _rows_chart(entries)
    st.header(_("Newest first"))
    for entry in reversed(entries[-NEWEST:]):
        _card(entry)
    with st.expander(_("Table of all {count} entries", count=len(entries))):
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
    columns[0].metric(_("Batches"), number(len(batches)))
    columns[1].metric(_("Listings received"), number(sum(batch["rows"] for batch in batches)))
    columns[2].metric(_("Models trained"), number(sum(entry["run_id"] is not None for entry in entries)))
    columns[3].metric(_("Promoted"), number(sum(entry["promoted"] is True for entry in entries)))


def _error_chart(entries: list[Json]) -> None:
    """Chart the errors of challengers and champions on the common holdout, by registered version."""
    title = _("Mean absolute error on the holdout, by version")
    st.markdown(f"**{title}**")
    evaluated = [entry for entry in entries if entry["version"] is not None and entry["holdout_metrics"]]
    roles = {"challenger": _("challenger"), "champion": _("champion")}
    points = [
        {
            "version": int(entry["version"]),
            "model": roles[role],
            "mae": entry["holdout_metrics"][role]["mae"],
            "verdict": _("promoted") if entry["promoted"] else _("rejected"),
        }
        for entry in evaluated
        for role in roles
        if entry["holdout_metrics"].get(role)
    ]
    if not points:
        st.caption(_("No model has been evaluated yet."))
        return
    chart = (
        alt.Chart(pd.DataFrame(points))
        .mark_line(point=alt.OverlayMarkDef(size=70, filled=True))
        .encode(
            x=alt.X("version:O", title=_("Model version"), axis=alt.Axis(labelAngle=0)),
            y=alt.Y("mae:Q", title=None, axis=alt.Axis(format="$,.0f"), scale=alt.Scale(zero=True)),
            color=alt.Color(
                "model:N",
                title=None,
                scale=alt.Scale(domain=list(roles.values()), range=["#2f6db5", "#b0b7c3"]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("version", title=_("Version")),
                alt.Tooltip("model", title=_("Model")),
                alt.Tooltip("mae", format="$,.0f", title="MAE"),
                alt.Tooltip("verdict", title=_("Verdict")),
            ],
        )
        .properties(height=300, description=title)
    )
    st.altair_chart(charts.localized(chart), width="stretch")


def _rows_chart(entries: list[Json]) -> None:
    title = _("Listings by batch")
    st.markdown(f"**{title}**")
    kinds = {"valid": _("valid"), "quarantined": _("quarantined"), "duplicates": _("duplicate")}
    points = [
        {"batch": batch["batch_number"], "kind": kind, "rows": batch[column] or 0}
        for batch in _batches(entries)
        for column, kind in kinds.items()
    ]
    chart = (
        alt.Chart(pd.DataFrame(points))
        .mark_bar()
        .encode(
            x=alt.X("batch:O", title=_("Batch"), axis=alt.Axis(labelAngle=0)),
            y=alt.Y("sum(rows):Q", title=None, axis=alt.Axis(format=",.0f")),
            color=alt.Color(
                "kind:N",
                title=None,
                scale=alt.Scale(domain=list(kinds.values()), range=["#2f6db5", "#e08a2e", "#b0b7c3"]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=[
                alt.Tooltip("batch", title=_("Batch")),
                alt.Tooltip("kind", title=_("Kind")),
                alt.Tooltip("rows", format=",", title=_("Listings")),
            ],
        )
        .properties(height=300, description=title)
    )
    st.altair_chart(charts.localized(chart), width="stretch")


def _card(entry: Json) -> None:
    """Show one batch: rows, decision, training, and the verdict on the model."""
    with st.container(border=True):
        left, right = st.columns([3, 1], vertical_alignment="center")
        left.markdown(f"**{_('Batch')} {entry['batch_number']}** &nbsp; {_badges(entry)}")
        right.caption(_moment(entry["received_at"]), text_alignment="right")
        st.markdown(_rows(entry))
        if entry["reason"]:
            st.markdown(f"**{_('Decision.')}** {plain(sentence(entry['reason']))}")
            _evidence(entry)
        if entry["training_metrics"]:
            training = _("**Training** on {rows} listings.", rows=entry["training_rows"])
            st.markdown(f"{training} {_scores(entry['training_metrics'])}")
        if entry["verdict"]:
            verdict = _("**Verdict on version {version}.**", version=entry["version"])
            st.markdown(f"{verdict} {plain(sentence(entry['verdict']))}")


def _evidence(entry: Json) -> None:
    """Show the evidence of the decision. Plots and errors per segment are in MLflow."""
    evidence = entry.get("evidence") or {}
    if not evidence.get("columns"):
        return
    with st.expander(_("Evidence")):
        champion = evidence["champion"]
        if champion["mae"] is not None:
            st.markdown(
                _(
                    "Champion version {version}, trained on {rows} listings: MAE {mae} on this batch{holdout}.",
                    version=champion["version"],
                    rows=champion["rows"],
                    mae=plain(dollars(champion["mae"])),
                    holdout=_(", {mae} on its holdout", mae=plain(dollars(champion["holdout_mae"])))
                    if champion["holdout_mae"]
                    else "",
                )
            )
        two_digits = partial(number, digits=2)
        tables.show(
            [
                {
                    _("Column"): column["column"],
                    "PSI": column["psi"],
                    "KS": column["ks"],
                    _("Unseen"): column["unseen"],
                    _("Moved"): column["moved"],
                }
                for column in evidence["columns"]
            ],
            {"PSI": two_digits, "KS": two_digits, _("Unseen"): percent},
            {
                "PSI": st.column_config.NumberColumn(help=_("Population stability index")),
                "KS": st.column_config.NumberColumn(help=_("Kolmogorov-Smirnov distance")),
                _("Unseen"): st.column_config.NumberColumn(
                    help=_("Rows with categories that the champion has not seen")
                ),
            },
        )
        run = evidence.get("run_id", _("unknown"))
        st.caption(_("All evidence, with plots: `decision.html` of MLflow run {run}", run=run))


def _champions(moves: list[Json]) -> None:
    """Show every move of the champion's alias."""
    if not moves:
        return
    st.header(_("Champions"))
    st.dataframe(
        [
            {
                _("When"): _moment(move["at"]),
                _("Version"): move["version"],
                _("Replaces"): move["before"],
                _("By"): move["kind"],
                _("Why"): move["reason"],
            }
            for move in reversed(moves)
        ],
        hide_index=True,
        column_config={_("Why"): st.column_config.TextColumn(width="large")},
    )


def _live_errors(errors: list[Json]) -> None:
    """Show the errors of served prices against the true prices that callers sent as feedback."""
    if not errors:
        return
    st.header(_("Live accuracy"))
    tables.show(
        [
            {
                _("Version"): error["model_version"],
                _("True prices"): error["count"],
                "MAE": error["mae"],
                _("Median error"): error["median_ape"],
                _("In the interval"): error["coverage"],
            }
            for error in reversed(errors)
        ],
        {_("True prices"): number, "MAE": dollars, _("Median error"): percent, _("In the interval"): percent},
        {
            _("True prices"): st.column_config.NumberColumn(
                help=_("Sent on the page Price, and by callers to `POST /feedback`")
            ),
            _("In the interval"): st.column_config.NumberColumn(help=_("The target is 80 %")),
        },
    )


def _invalid_prices(counts: list[Json]) -> None:
    """Warn of rows that the figures leave out. Answers of an earlier release have no such counts."""
    rows = [_("{count} in `{source}`", **count) for count in counts if count["count"]]
    if rows:
        st.warning(
            _(
                "Rows of the ledger with an impossible price: {rows}. No figure on this page counts them. The runbook "
                "`InvalidPrices` says how to find and delete them.",
                rows=", ".join(rows),
            ),
            icon=":material/warning:",
        )


def _rows(entry: Json) -> str:
    counts = {rule: count for rule, count in (entry["quarantine"] or {}).items() if count}
    if not counts:
        return _("{rows} listings", rows=entry["rows"])
    rules = ", ".join(_("{count} for {rule}", count=count, rule=plain(rule)) for rule, count in counts.items())
    return _("{rows} listings; quarantined by validation: {rules}", rows=entry["rows"], rules=rules)


def _badges(entry: Json) -> str:
    if entry["decision"] is None:
        return f":gray-badge[{_(entry['state'])}]"
    badges = f":blue-badge[{_('train')}]" if entry["decision"] == "train" else f":gray-badge[{_('skip')}]"
    if entry["promoted"] is None:
        return badges
    return badges + (f" :green-badge[{_('promoted')}]" if entry["promoted"] else f" :orange-badge[{_('rejected')}]")


def _scores(metrics: Json) -> str:
    """The test scores as a sentence. The scores of the other splits are in MLflow."""
    scores = metrics.get("test", {})
    values = []
    for measure, name in MEASURES.items():
        if (value := scores.get(measure)) is not None:
            values.append(f"{name} {plain(dollars(value)) if measure in ('mae', 'rmse') else number(value, 3)}")
    return _("On the test split: {scores}.", scores=", ".join(values)) if values else ""


def _table(entries: list[Json]) -> None:
    wide = st.column_config.TextColumn(width="large")
    tables.show(
        [_row(entry) for entry in reversed(entries)],
        {_("Listings"): number, _("Quarantined"): number, _("Holdout MAE"): dollars},
        {_("Reason"): wide, _("Verdict"): wide},
    )


def _row(entry: Json) -> Json:
    holdout: Any = (entry["holdout_metrics"] or {}).get("challenger") or {}
    return {
        _("Batch"): entry["batch_number"],
        _("Received"): _moment(entry["received_at"]),
        _("Listings"): entry["rows"],
        _("Quarantined"): entry["quarantined"],
        _("Decision"): _(entry["decision"] or entry["state"]),
        _("Reason"): entry["reason"],
        _("Version"): entry["version"],
        _("Holdout MAE"): holdout.get("mae"),
        _("Verdict"): entry["verdict"],
    }


def _moment(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M}"
