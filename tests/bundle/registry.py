"""A small local registry with the parts of the distribution specification that a push and a pull need."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.kit.request_body import read_body


@contextmanager
def registry() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Its host and port, and everything that it holds, by path."""
    held: dict[str, bytes] = {}
    kinds: dict[str, str] = {}
    uploads: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def do_GET(self) -> None:
            path = self.path
            if path == "/v2/":
                return self.answer(200)
            if path not in held:
                return self.answer(404)
            digest = f"sha256:{hashlib.sha256(held[path]).hexdigest()}"
            kind = kinds.get(path, "application/octet-stream")
            return self.answer(200, held[path], Content_Type=kind, Docker_Content_Digest=digest)

        do_HEAD = do_GET

        def do_POST(self) -> None:
            read_body(self)
            path = f"{self.path.partition('?')[0].rstrip('/')}/{len(uploads)}"
            uploads[path] = b""
            self.answer(202, Location=path)

        def do_PATCH(self) -> None:
            path = self.path.partition("?")[0]
            uploads[path] += read_body(self)
            self.answer(202, Location=path)

        def do_PUT(self) -> None:
            content = read_body(self)
            path, _, query = self.path.partition("?")
            if path in uploads:
                content = uploads[path] + content
                digest = query.partition("digest=")[2].replace("%3A", ":")
                assert digest == f"sha256:{hashlib.sha256(content).hexdigest()}"
                held[re.sub(r"/blobs/uploads/\d+$", f"/blobs/{digest}", path)] = content
            else:
                digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
                for name in (path, re.sub(r"/manifests/[^/]+$", f"/manifests/{digest}", path)):
                    held[name], kinds[name] = content, self.headers.get("Content-Type", "")
            self.answer(201, Docker_Content_Digest=digest)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", held
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
