"""A small local HTTP server with configured answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answers:
    """Answer of the server, by path if `by_path` has it, then by Authorization header if `by_token` has it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    by_token: Mapping[str, Answers] = field(default_factory=dict)
    by_path: Mapping[str, Answers] = field(default_factory=dict)


@contextmanager
def answering(answers: Answers) -> Iterator[tuple[int, list[str]]]:
    """Yields the port and the received requests. Example of a request: `GET /health`."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(f"{self.command} {self.path}")
            reply = answers.by_path.get(self.path.partition("?")[0], answers)
            reply = reply.by_token.get(self.headers.get("Authorization", ""), reply)
            port = str(server.server_port)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value.replace("PORT", port))
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(reply.body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
