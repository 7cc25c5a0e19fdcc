"""Metrics of HTTP requests, with the default names, labels and buckets of prometheus-fastapi-instrumentator.

A test compares them with the default. The instrumentator finds the route of a request by trying all routes, which takes
longer than a price. So `one_listing` looks up its series once and counts without the instrumentator.
"""

from __future__ import annotations

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, Summary
from prometheus_fastapi_instrumentator.metrics import Info

_FINE = (0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 7.5, 10, 30, 60)


class HttpMetrics:
    """Requests by method, route and status, with their sizes and durations."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.requests = Counter(
            "http_requests_total",
            "Total number of requests by method, status and handler.",
            ["method", "status", "handler"],
            registry=registry,
        )
        self.received = Summary(
            "http_request_size_bytes",
            "Content length of incoming requests by handler. Only value of header is respected. Otherwise ignored. "
            "No percentile calculated. ",
            ["handler"],
            registry=registry,
        )
        self.sent = Summary(
            "http_response_size_bytes",
            "Content length of outgoing responses by handler. Only value of header is respected. Otherwise ignored. "
            "No percentile calculated. ",
            ["handler"],
            registry=registry,
        )
        self.fine = Histogram(
            "http_request_duration_highr_seconds",
            "Latency with many buckets but no API specific labels. Made for more accurate percentile calculations. ",
            buckets=_FINE,
            registry=registry,
        )
        self.coarse = Histogram(
            "http_request_duration_seconds",
            "Latency with only few buckets by handler. Made to be only used if aggregation by handler is important. ",
            ["method", "handler"],
            buckets=(0.1, 0.5, 1),
            registry=registry,
        )
        self.route = cache(self._series)

    def count(self, info: Info) -> None:
        """Count a request. The instrumentator calls this after each request."""
        route = self.route(info.method, info.modified_handler)
        received = info.request.headers.get("Content-Length", 0)
        sent = info.response.headers.get("Content-Length", 0) if info.response else 0
        route.count(info.modified_status, int(received), int(sent), info.modified_duration)

    def _series(self, method: str, handler: str) -> RouteSeries:
        return RouteSeries(self, method, handler)


class RouteSeries:
    """The time series of one method and one route."""

    def __init__(self, metrics: HttpMetrics, method: str, handler: str) -> None:
        self._requests = cache(lambda status: metrics.requests.labels(method, status, handler))
        self._received, self._sent = metrics.received.labels(handler), metrics.sent.labels(handler)
        self._fine, self._coarse = metrics.fine, metrics.coarse.labels(method, handler)

    def count(self, status: str, received: int, sent: int, seconds: float) -> None:
        """Count a request: status class such as `2xx`, bytes by Content-Length (0 without the header), seconds."""
        self._requests(status).inc()
        self._received.observe(received)
        self._sent.observe(sent)
        self._fine.observe(seconds)
        self._coarse.observe(seconds)


http_metrics = HttpMetrics()
