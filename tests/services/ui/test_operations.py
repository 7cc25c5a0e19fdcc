"""The page Operations, with a Prometheus that returns given answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from streamlit.testing.v1 import AppTest

from tests.kit.prometheus_answers import WATCHDOG, alert, healthy, trend, vector
from ui import operations
from ui.prometheus import Prometheus

LISTS = (operations.MODELS, operations.COMPONENTS, operations.MEMORY)
PENDING = WATCHDOG | {"labels": {"alertname": "Slow", "severity": "critical"}, "state": "pending"}


def page(
    instant: Callable[[str], dict[str, Any]] = healthy,
    alerts: tuple[dict[str, Any], ...] = (WATCHDOG, PENDING),
    other: httpx.Response | Exception | None = None,
) -> AppTest:
    """The page. `other` answers every request instead."""

    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(other, Exception):
            raise other
        if other:
            return other
        if request.url.path == "/api/v1/alerts":
            data: dict[str, Any] = {"alerts": list(alerts)}
        elif request.url.path == "/api/v1/query":
            data = instant(request.url.params["query"])
        else:
            data = trend(request.url.params)
        return httpx.Response(200, json={"status": "success", "data": data})

    def script(show, prometheus):  # type: ignore[no-untyped-def]  # Streamlit runs its source without the names above
        show(prometheus)

    prometheus = Prometheus("http://prometheus:9090", transport=httpx.MockTransport(answer))
    shown = AppTest.from_function(script, args=(operations.show, prometheus), default_timeout=20).run()
    assert not shown.exception, shown.exception
    return shown


def test_healthy_platform_is_shown_with_its_figures() -> None:
    shown = page()
    assert shown.success[0].value == "No alert fires. 2 of 2 components answer."
    figures = {metric.label: metric.value for metric in shown.metric}
    assert figures == {
        "Requests": "0.2 / s", "Failed": "25.0 %", "Latency (p99)": "250 ms", "Model in service for": "0 s",
        "Last pipeline run": "0 s", "Last full backup": "0 s", "Holdout error": "$0", "Free space": "25.0 %",
    }  # fmt: skip
    assert "Model in service: **house-price 7**" in [each.value for each in shown.markdown]
    assert [json.loads(chart.proto.spec)["mark"]["type"] for chart in shown.get("vega_lite_chart")] == ["line"] * 2
    assert shown.dataframe[0].value["Component"].tolist() == ["fastapi", "minio"]
    memory = shown.dataframe[1].value
    assert memory["Used"].tolist() == [at / 20 for at in range(14, 4, -1)], "the ten fullest containers"


def test_firing_alerts_are_listed_with_their_runbooks_the_critical_ones_first() -> None:
    shown = page(alerts=(WATCHDOG, PENDING, alert("BatchesMissing", "warning"), alert("PostgresDown", "critical")))
    assert "2 alerts fire" in shown.error[0].value
    table = shown.dataframe[0].value
    assert table["Alert"].tolist() == ["PostgresDown", "BatchesMissing"]
    assert table["Runbook"].tolist()[0] == "charts/monitoring/runbooks/PostgresDown.md"
    assert table["Since"].tolist()[0] == "2026-11-24 10:00 UTC"


def test_new_platform_without_data_is_shown() -> None:
    shown = page(instant=lambda _: vector())
    assert {metric.value for metric in shown.metric} == {"no data"}
    assert "Model in service: **none**" in [each.value for each in shown.markdown]


def test_component_that_does_not_answer_comes_first() -> None:
    down = vector(({"job": "fastapi"}, "1"), ({"job": "minio"}, "0"))
    shown = page(instant=lambda query: down if query == operations.COMPONENTS else healthy(query))
    assert shown.dataframe[0].value["Component"].tolist() == ["minio", "fastapi"]
    assert shown.dataframe[0].value["Answers"].tolist() == ["no", "yes"]


def test_value_that_is_not_a_number_counts_as_no_data() -> None:
    shown = page(instant=lambda query: healthy(query) if query in LISTS else vector(({}, "NaN")))
    assert {metric.value for metric in shown.metric} == {"no data"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (httpx.ConnectError("refused"), "`http://prometheus:9090` cannot be reached."),
        (httpx.ReadTimeout("late"), "did not answer in time."),
        (httpx.Response(400, json={"status": "error", "error": "parse error"}), "refused a query: parse error."),
        (httpx.Response(404, text="<html>"), "does not answer like Prometheus (404)."),
        (httpx.Response(200, json=[]), "refused a query: 200."),
    ],
)
def test_failing_prometheus_is_explained(other: httpx.Response | Exception, words: str) -> None:
    error = page(other=other).error[0].value
    assert words in error
    assert "make doctor" in error


@pytest.mark.parametrize(
    ("seconds", "text"), [(5, "5 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (3 * 86400, "3 days")]
)
def test_duration_is_in_its_largest_unit(seconds: float, text: str) -> None:
    assert operations._duration(seconds) == text
