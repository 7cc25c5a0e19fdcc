"""The page `Operations`: state of the platform from Prometheus. Grafana has more, and this page works without it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import altair as alt
import pandas as pd
import streamlit as st

from ui import charts
from ui.language import _, dollars, number, percent, plural, translated
from ui.prometheus import FiringAlert, Prometheus, PrometheusError, Sample
from ui.texts import marked
from ui.words import plain

TREND_SECONDS = 6 * 3600
QUERIES_AT_ONCE = 8
_USED = 'job="fastapi", handler=~"/predict|/explain|/feedback"'


def _per_second(value: float) -> str:
    return f"{number(value, 1)} / s"


def _seconds(value: float) -> str:
    return f"{number(1000 * value)} ms" if value < 1 else f"{number(value, 1)} s"


def _duration(seconds: float) -> str:
    """A duration in its largest unit, such as `3 h`."""
    for size, unit in ((86400, _("days")), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


@dataclass(frozen=True)
class Figure:
    """One number of the page. `title` and `explanation` are translated when it is shown."""

    title: str
    query: str
    text: Callable[[float], str]
    explanation: str


@dataclass(frozen=True)
class Trend:
    """One chart of the page, with a title to translate.

    `label` names the label that tells its lines apart; `axis` is a number format.
    """

    title: str
    query: str
    label: str
    axis: str


FIGURES = (
    Figure(marked("Requests"), f"sum(rate(http_requests_total{{{_USED}}}[5m]))", _per_second,
           marked("Requests for prices and with true prices, in the last five minutes")),
    Figure(marked("Failed"), f'(sum(rate(http_requests_total{{{_USED}, status="5xx"}}[5m])) or vector(0))'
           f" / (sum(rate(http_requests_total{{{_USED}}}[5m])) > 0)", percent,
           marked("Share of these requests that were answered with 5xx")),
    Figure(marked("Latency (p99)"),
           "histogram_quantile(0.99, sum by (le) (rate(house_predict_seconds_bucket[5m])))", _seconds,
           marked("99 of 100 requests for prices take less time in the service")),
    Figure(marked("Model in service for"), "time() - min(house_model_loaded_timestamp_seconds > 0)", _duration,
           marked("Since the oldest pod loaded its model")),
    Figure(marked("Last pipeline run"), "time() - max(house_last_run_timestamp_seconds > 0)", _duration,
           marked("Since a stage last wrote to the ledger")),
    Figure(marked("Last full backup"),
           'time() - max(house_backup_last_success_timestamp_seconds{kind="full"} > 0)', _duration,
           marked("Since the last full backup ended")),
    Figure(marked("Holdout error"), 'max(house_holdout_mae_dollars{model="champion"})'
           ' or max(house_holdout_mae_dollars{model="challenger"})', dollars,
           marked("Mean absolute error of the champion on the holdout of the last verdict; of the first model "
                  "its own")),
    Figure(marked("Free space"),
           "min(minio_cluster_capacity_usable_free_bytes) / min(minio_cluster_capacity_usable_total_bytes)", percent,
           marked("Free space of the volume of the object store")),
)  # fmt: skip
MODELS = "count by (name, version) (house_model_info)"
COMPONENTS = "min by (job) (up)"
MEMORY = (
    'max by (pod, container) (container_memory_working_set_bytes{container!=""})'
    ' / max by (pod, container) (container_spec_memory_limit_bytes{container!=""} > 0)'
)
TRENDS = (
    Trend(marked("Requests per second"),
          f"sum by (status) (rate(http_requests_total{{{_USED}}}[5m]))", "status", ",.1f"),
    Trend(marked("Latency (p99, seconds)"),
          "histogram_quantile(0.99, sum by (handler, le) (rate(house_predict_seconds_bucket[5m])))", "handler", ",.3f"),
)  # fmt: skip
QUERIES = (*(figure.query for figure in FIGURES), *(trend.query for trend in TRENDS), MODELS, COMPONENTS, MEMORY)


def show(prometheus: Prometheus) -> None:
    """Show firing alerts, figures, trends, components and memory."""
    st.title(_("Operations"))
    try:
        alerts, samples = _ask(prometheus)
    except PrometheusError as error:
        st.error(
            f"**{translated(error.reason)}** "
            + _("`make doctor ARGS=--installed` and `make status` say what is wrong. Prices do not need Prometheus."),
            icon=":material/error:",
        )
        return
    _alerts(alerts, samples[COMPONENTS])
    _figures(samples)
    for trend, column in zip(TRENDS, st.columns(len(TRENDS)), strict=True):
        with column:
            _trend(trend, samples[trend.query])
    left, right = st.columns(2)
    with left:
        _components(samples[COMPONENTS])
    with right:
        _memory(samples[MEMORY])


def _ask(prometheus: Prometheus) -> tuple[list[FiringAlert], dict[str, list[Sample]]]:
    """The alerts that fire, and the samples of each query. Queries run in parallel, so one slow query delays no other.

    Raises:
        PrometheusError: see there.
    """
    trends = {trend.query for trend in TRENDS}

    def samples(query: str) -> list[Sample]:
        return prometheus.range(query, TREND_SECONDS) if query in trends else prometheus.now(query)

    with ThreadPoolExecutor(QUERIES_AT_ONCE) as pool:
        firing = pool.submit(prometheus.firing)
        return firing.result(), dict(zip(QUERIES, pool.map(samples, QUERIES), strict=True))


def _alerts(alerts: list[FiringAlert], components: list[Sample]) -> None:
    if not alerts:
        up = sum(sample.value == 1 for sample in components)
        message = _("No alert fires. {up} of {all} components answer.", up=up, all=len(components))
        st.success(message, icon=":material/check_circle:")
        return
    st.error(plural("**{count} alert fires.**", "**{count} alerts fire.**", len(alerts)), icon=":material/warning:")
    rows = [
        {
            _("Severity"): alert.severity,
            _("Alert"): alert.name,
            _("Summary"): alert.summary,
            _("Since"): f"{datetime.fromisoformat(alert.since).astimezone(UTC):%Y-%m-%d %H:%M} UTC",
            _("Runbook"): alert.runbook,
        }
        for alert in alerts
    ]
    st.dataframe(rows, hide_index=True, column_config={_("Summary"): st.column_config.TextColumn(width="large")})


def _figures(samples: dict[str, list[Sample]]) -> None:
    models = ", ".join(f"{one.labels['name']} {one.labels['version']}" for one in samples[MODELS])
    st.markdown(_("Model in service: **{models}**", models=plain(models or _("none"))))
    for start in range(0, len(FIGURES), 4):
        for figure, column in zip(FIGURES[start : start + 4], st.columns(4), strict=False):
            values = samples[figure.query]
            value = figure.text(values[0].value) if values else _("no data")
            column.metric(_(figure.title), value, help=_(figure.explanation))


def _trend(trend: Trend, samples: list[Sample]) -> None:
    st.markdown(_("**{title}, last {time}**", title=_(trend.title), time=_duration(TREND_SECONDS)))
    if not samples:
        st.caption(_("No data yet."))
        return
    end = max(one.at for one in samples)
    frame = pd.DataFrame(
        [{"time": _moment(one.at), "value": one.value, "line": one.labels.get(trend.label, "")} for one in samples]
    )
    chart = (
        alt.Chart(frame)
        .mark_line()
        .encode(
            x=alt.X("time:T", title=None, scale=alt.Scale(domain=[_moment(end - TREND_SECONDS), _moment(end)])),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(format=trend.axis), scale=alt.Scale(zero=True)),
            color=alt.Color("line:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["time:T", "line:N", alt.Tooltip("value:Q", format=trend.axis)],
        )
        .properties(height=240, description=_(trend.title))
    )
    st.altair_chart(charts.localized(chart), width="stretch")


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _components(components: list[Sample]) -> None:
    st.markdown(_("**Components**"))
    rows = [
        {_("Component"): one.labels["job"], _("Answers"): _("yes") if one.value == 1 else _("no")}
        for one in sorted(components, key=lambda one: (one.value, one.labels["job"]))
    ]
    st.dataframe(rows, hide_index=True)


def _memory(shares: list[Sample]) -> None:
    st.markdown(_("**Memory of containers, as a share of their limits**"))
    rows = [
        {_("Pod"): one.labels["pod"], _("Container"): one.labels["container"], _("Used"): one.value}
        for one in sorted(shares, key=lambda one: -one.value)[:10]
    ]
    config = {_("Used"): st.column_config.ProgressColumn(min_value=0, max_value=1, format="percent")}
    st.dataframe(rows, hide_index=True, column_config=config)
