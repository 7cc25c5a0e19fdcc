"""Client of Prometheus' HTTP API, with short time-outs."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx

from ui.texts import Text

Labels = dict[str, str]


class PrometheusError(Exception):
    """Prometheus did not answer a query, for this `reason`."""

    def __init__(self, reason: Text) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Sample:
    """The value of one time series at one time (Unix seconds)."""

    labels: Labels
    at: float
    value: float


@dataclass(frozen=True)
class FiringAlert:
    """An alert that fires. `since` is ISO 8601, `runbook` a path in the repository."""

    name: str
    severity: str
    summary: str
    since: str
    runbook: str


class Prometheus:
    """Client of one Prometheus. Safe to share between sessions."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=httpx.Timeout(8, connect=3), transport=transport)

    def now(self, query: str) -> list[Sample]:
        """The value of each series at present, without those that are not a number.

        Raises:
            PrometheusError: see there.
        """
        result = self._get("query", {"query": query})["result"]
        return _samples((series["metric"], [series["value"]]) for series in result)

    def range(self, query: str, seconds: float, points: int = 360) -> list[Sample]:
        """The values of each series in the last `seconds`, about `points` of each.

        Raises:
            PrometheusError: see there.
        """
        end = time.time()
        parameters = {"query": query, "start": str(end - seconds), "end": str(end), "step": str(seconds / points)}
        result = self._get("query_range", parameters)["result"]
        return _samples((series["metric"], series["values"]) for series in result)

    def firing(self) -> list[FiringAlert]:
        """The alerts that fire, without the one that always fires; critical ones first.

        Raises:
            PrometheusError: see there.
        """
        alerts = [
            FiringAlert(
                alert["labels"]["alertname"],
                alert["labels"].get("severity", "none"),
                alert["annotations"].get("summary", ""),
                alert["activeAt"],
                alert["annotations"].get("runbook_url", ""),
            )
            for alert in self._get("alerts", {})["alerts"]
            if alert["state"] == "firing" and alert["labels"].get("severity") != "none"
        ]
        order = {"critical": 0, "warning": 1}
        return sorted(alerts, key=lambda alert: (order.get(alert.severity, 2), alert.name))

    def _get(self, path: str, parameters: dict[str, str]) -> dict[str, Any]:
        try:
            response = self._http.get(f"/api/v1/{path}", params=parameters)
            answer = response.json()
        except httpx.TimeoutException as late:
            raise PrometheusError(Text("Prometheus at `{url}` did not answer in time.", url=self.url)) from late
        except httpx.TransportError as away:
            raise PrometheusError(Text("Prometheus at `{url}` cannot be reached.", url=self.url)) from away
        except ValueError as other:
            raise PrometheusError(
                Text("`{url}` does not answer like Prometheus ({code}).", url=self.url, code=response.status_code)
            ) from other
        if not isinstance(answer, dict) or answer.get("status") != "success":
            error = answer.get("error") if isinstance(answer, dict) else None
            raise PrometheusError(Text("Prometheus refused a query: {error}.", error=error or response.status_code))
        data: dict[str, Any] = answer["data"]
        return data


def _samples(series: Iterable[tuple[Labels, list[tuple[float, str]]]]) -> list[Sample]:
    samples = [Sample(labels, float(at), float(value)) for labels, values in series for at, value in values]
    return [sample for sample in samples if math.isfinite(sample.value)]
