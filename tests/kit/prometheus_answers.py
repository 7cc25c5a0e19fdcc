"""Answers of a Prometheus that watches a healthy platform, for the page Operations."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from ui import operations

WATCHDOG: dict[str, Any] = {
    "labels": {"alertname": "Watchdog", "severity": "none"},
    "annotations": {"summary": "always"},
    "state": "firing",
    "activeAt": "2026-11-24T10:00:00.5Z",
}


def alert(name: str, severity: str) -> dict[str, Any]:
    """An alert that fires."""
    annotations = {"summary": f"{name} <b>is</b> $5", "runbook_url": f"charts/monitoring/runbooks/{name}.md"}
    return WATCHDOG | {"labels": {"alertname": name, "severity": severity}, "annotations": annotations}


def vector(*series: tuple[dict[str, str], str]) -> dict[str, Any]:
    """The result of an instant query."""
    return {"resultType": "vector", "result": [{"metric": labels, "value": [1.7e9, value]} for labels, value in series]}


def healthy(query: str) -> dict[str, Any]:
    """The result of an instant query on a healthy platform."""
    if query == operations.MODELS:
        return vector(({"name": "house-price", "version": "7"}, "2"))
    if query == operations.COMPONENTS:
        return vector(({"job": "fastapi"}, "1"), ({"job": "minio"}, "1"))
    if query == operations.MEMORY:
        return vector(*(({"pod": f"pod-{at}", "container": "main"}, str(at / 20)) for at in range(15)))
    return vector(({}, "0.25"))


def trend(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The result of a range query, whose last value is not a number."""
    times = range(int(float(parameters["start"])), int(float(parameters["end"])), 3600)
    values = [[at, "1.5"] for at in times] + [[times[-1] + 1, "NaN"]]
    return {"resultType": "matrix", "result": [{"metric": {"status": "2xx"}, "values": values}]}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        address = urlsplit(self.path)
        parameters = dict(parse_qsl(address.query))
        if address.path == "/api/v1/alerts":
            data: dict[str, Any] = {"alerts": [WATCHDOG, alert("BatchesMissing", "warning")]}
        elif address.path == "/api/v1/query":
            data = healthy(parameters["query"])
        else:
            data = trend(parameters)
        body = json.dumps({"status": "success", "data": data}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads the log."""


@contextmanager
def serving() -> Iterator[str]:
    """Run a server with these answers and one firing alert; yields its URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
