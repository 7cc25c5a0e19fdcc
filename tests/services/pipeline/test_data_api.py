"""Every answer of the data API becomes a batch, the end of the data, or an error with a remedy."""

from __future__ import annotations

import gzip
import json
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ci.local.processes import free_port
from core.errors import DataError
from pipeline.ingest.data_api import MAX_ERROR_BYTES, AnswerLimits, LostAnswer, next_batch

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers every request with this handler; returns its URL."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def serve(status: int, body: bytes | Any, length: int | None = None, delay: float = 0) -> Answer:
    """An answer. `length` sets a wrong Content-Length; with `delay` the body comes in two parts."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content) if length is None else length))
        handler.end_headers()
        handler.wfile.write(content[:10])
        handler.wfile.flush()
        time.sleep(delay)
        handler.wfile.write(content[10:])

    return answer


def ask(url: str, timeout: float = 5, total: float = 60, max_bytes: int = 1_000_000) -> Any:
    return next_batch(url, 1, "Tuesday", AnswerLimits(timeout, total, max_bytes))


def test_batch_is_read_with_one_call(answering: Callable[[Answer], str]) -> None:
    paths: list[str] = []
    body = {"group_number": 1, "day": "Tuesday", "batch_number": 3, "data": [{"price": 1, "zip_code": "01001"}, {}]}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        paths.append(handler.path)
        serve(200, body)(handler)

    result = ask(answering(answer))
    assert (result.content.batch_number, result.size) == (3, len(json.dumps(body)))
    assert result.content.raw.to_dicts() == [{"price": 1.0, "zip_code": 1001.0}, {"price": None, "zip_code": None}]
    assert paths == ["/data?group_number=1&day=Tuesday"], "one call: the cursor moves with each"


@pytest.mark.parametrize(
    "detail",
    [
        "Ya se recolectó toda la información mínima necesaria",
        "Ya se recolecto toda la informacion minima necesaria",
        "ya se recolecto\u0301 todo",
        "YA SE RECOLECTÓ TODO",
    ],
)
def test_end_of_data_is_recognised_with_any_accents(answering: Callable[[Answer], str], detail: str) -> None:
    assert ask(answering(serve(400, {"detail": detail}))) is None
    assert ask(answering(serve(400, json.dumps({"detail": detail}, ensure_ascii=False).encode()))) is None


def test_end_of_data_is_recognised_in_another_encoding(answering: Callable[[Answer], str]) -> None:
    assert ask(answering(serve(400, '{"detail": "Ya se recolectó todo"}'.encode("latin-1")))) is None


@pytest.mark.parametrize(
    ("status", "body", "message"),
    [
        (400, {"detail": "Número de grupo inválido"}, "refused group 1 with 400: Número de grupo inválido"),
        (500, {"detail": "Ya se recolectó"}, "refused group 1 with 500"),
        (500, b"Internal Server Error", "refused group 1 with 500: Internal Server Error"),
        (422, {"detail": [{"loc": ["query", "day"], "msg": "Field required"}]}, "with 422: [{'loc': ['query', 'day']"),
        (400, ["nothing"], "refused group 1 with 400"),
        (502, b"<html><body>Bad Gateway</body></html>", "refused group 1 with 502: <html>"),
        (404, b"", "refused group 1 with 404"),
    ],
)
def test_refusal_is_reported_and_loses_no_batch(
    answering: Callable[[Answer], str], status: int, body: Any, message: str
) -> None:
    with pytest.raises(DataError) as refused:
        ask(answering(serve(status, body)))
    assert message in sentence(refused.value)
    assert not isinstance(refused.value, LostAnswer)


GOOD = {"batch_number": 1, "data": [{"price": 1}]}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (serve(200, json.dumps(GOOD).encode()[:-8]), "is not JSON"),
        (serve(200, b""), "0 bytes, is not JSON"),
        (serve(200, b"<html>please sign in</html>"), "or another service answered"),
        (serve(200, b"\xff\xfe\x00"), "is not JSON"),
        (serve(200, json.dumps(GOOD).encode(), length=10_000), "broke off"),
        (serve(200, {"data": [{}]}), "is not a batch (Object missing required field `batch_number`). Check"),
        (serve(200, {"batch_number": 1}), "missing required field `data`"),
        (serve(200, []), "is not a batch (Expected `object`, got `array`)"),
        (serve(200, None), "is not a batch (Expected `object`, got `null`)"),
        (serve(200, {"batch_number": "1", "data": [{}]}), "got `str` - at `$.batch_number`"),
        (serve(200, {"batch_number": True, "data": [{}]}), "got `bool` - at `$.batch_number`"),
        (serve(200, {"batch_number": -1, "data": [{}]}), "`int` >= 0 - at `$.batch_number`"),
        (serve(200, {"batch_number": 1, "data": []}), "length >= 1 - at `$.data`"),
        (serve(200, {"batch_number": 1, "data": {"price": [1]}}), "got `object` - at `$.data`"),
        (serve(200, {"batch_number": 1, "data": [[1, 2]]}), "Expected `object`, got `array` - at `$[0]`"),
        (serve(200, b'{"batch_number": 1, "data": [{"city": "\xff"}]}'), "is not JSON"),
        (serve(302, b""), "is not JSON"),
        (lambda handler: handler.connection.close(), "broke off"),
        (lambda handler: handler.wfile.write(b"rubbish\r\n\r\n"), "broke off"),
    ],
)
def test_invalid_answer_is_reported_as_lost(answering: Callable[[Answer], str], answer: Answer, message: str) -> None:
    with pytest.raises(LostAnswer) as lost:
        ask(answering(answer))
    assert message in sentence(lost.value)


def test_timeout_is_reported_as_a_lost_answer(answering: Callable[[Answer], str]) -> None:
    began = time.monotonic()
    with pytest.raises(LostAnswer) as late:
        ask(answering(lambda _: time.sleep(1)), timeout=0.2)
    assert time.monotonic() - began < 1
    assert "sent nothing for 0.2 s. Its cursor may have moved" in sentence(late.value)
    with pytest.raises(LostAnswer, match=r"sent nothing for 0\.2 s"):
        ask(answering(serve(200, GOOD, delay=1)), timeout=0.2)


def test_slow_answer_is_not_a_timeout(answering: Callable[[Answer], str]) -> None:
    assert ask(answering(serve(200, GOOD, delay=0.3)), timeout=0.5).content.batch_number == 1


def drip(status: int, content: bytes = b" " * 10_000, pause: float = 0.02) -> Answer:
    """An answer that sends one byte after the other."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with suppress(OSError):  # the client gave up
            for at in range(len(content)):
                handler.wfile.write(content[at : at + 1])
                handler.wfile.flush()
                time.sleep(pause)

    return answer


@pytest.mark.parametrize("status", [200, 500])
def test_body_that_drips_ends_at_the_total_time(answering: Callable[[Answer], str], status: int) -> None:
    began = time.monotonic()
    with pytest.raises(LostAnswer) as late:
        ask(answering(drip(status)), total=0.5)
    assert time.monotonic() - began < 5
    assert "was not complete after 0.5 s, although bytes kept coming" in sentence(late.value)
    assert "dataApiTotalSeconds" in sentence(late.value)


def compressed(content: bytes, encoding: str = "gzip", status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Encoding", encoding)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        with suppress(OSError):
            handler.wfile.write(content)

    return answer


def test_compressed_batch_is_read(answering: Callable[[Answer], str]) -> None:
    body = json.dumps(GOOD).encode()
    result = ask(answering(compressed(gzip.compress(body))))
    assert (result.content.batch_number, result.size) == (1, len(body))


def test_answer_has_at_most_the_allowed_bytes(answering: Callable[[Answer], str]) -> None:
    body = json.dumps(GOOD).encode()
    assert ask(answering(serve(200, body)), max_bytes=len(body)).size == len(body)
    with pytest.raises(LostAnswer, match=r"has more than 42 bytes.*raise airflow\.pipeline\.config\.dataApiMaxBytes"):
        ask(answering(serve(200, body)), max_bytes=len(body) - 1)


def test_compressed_bomb_is_not_unpacked(answering: Callable[[Answer], str]) -> None:
    bomb = gzip.compress(b" " * 200_000_000, compresslevel=1)
    tracemalloc.start()
    with pytest.raises(LostAnswer) as lost:
        ask(answering(compressed(bomb)), max_bytes=1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "has more than 1,000,000 bytes" in sentence(lost.value)
    assert peak < 150_000_000, "one part of the answer at most is unpacked"


def test_error_text_is_read_in_part_only(answering: Callable[[Answer], str]) -> None:
    with pytest.raises(DataError) as refused:
        ask(answering(compressed(gzip.compress(b"x" * 100 * MAX_ERROR_BYTES), status=500)), max_bytes=10)
    assert "refused group 1 with 500: xxx" in sentence(refused.value)
    assert not isinstance(refused.value, LostAnswer)


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br", "zstd"])
def test_other_encoding_than_asked_for_is_not_decoded(answering: Callable[[Answer], str], encoding: str) -> None:
    with pytest.raises(LostAnswer) as lost:
        ask(answering(compressed(b"x", encoding)))
    assert f"has the encoding '{encoding}', but only gzip was asked for" in sentence(lost.value)


def test_unreachable_service_is_reported_and_loses_no_batch() -> None:
    with pytest.raises(DataError) as away:
        ask(f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in sentence(away.value)
    assert "Check that it is up, and that a NetworkPolicy lets this pod reach it" in sentence(away.value)
    assert not isinstance(away.value, LostAnswer)


def sentence(error: DataError) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 500
    return text
