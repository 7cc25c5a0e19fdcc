"""A small HTTP server of this machine that gives the answer it is told to give."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answers:
    """What the server says to a request, by the value of its Authorization header if `by_token` has it."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    by_token: Mapping[str, Answers] = field(default_factory=dict)
    by_path: Mapping[str, Answers] = field(default_factory=dict)


@contextmanager
def answering(answers: Answers) -> Iterator[tuple[int, list[str]]]:
    """Its port, and the requests that came, as `GET /health`."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(f"{self.command} {self.path}")
            said = answers.by_path.get(self.path.partition("?")[0], answers)
            said = said.by_token.get(self.headers.get("Authorization", ""), said)
            port = str(server.server_port)
            self.send_response(said.status)
            for name, value in said.headers.items():
                self.send_header(name, value.replace("PORT", port))
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(said.body)

        do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
