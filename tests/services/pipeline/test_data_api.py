"""Whatever the data API answers, it is a batch, the end of data, or one sentence that says what to do."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ci.local import free_port
from core.errors import DataError
from pipeline.data_api import LostAnswer, next_batch

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def answering() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers every request in this way; gives its URL."""
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


def says(status: int, body: bytes | Any, length: int | None = None, delay: float = 0) -> Answer:
    """An answer; with `length` it promises more, or less, than it sends, with `delay` it comes in two parts."""
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


def ask(url: str, timeout: float = 5) -> Any:
    return next_batch(url, 1, "Tuesday", timeout)


def test_batch_is_taken_as_it_comes(answering: Callable[[Answer], str]) -> None:
    asked: list[str] = []
    body = {"group_number": 1, "day": "Tuesday", "batch_number": 3, "data": [{"price": 1, "zip_code": "01001"}, {}]}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        says(200, body)(handler)

    found = ask(answering(answer))
    assert (found.content.batch_number, found.size) == (3, len(json.dumps(body)))
    assert found.content.raw.to_dicts() == [{"price": 1.0, "zip_code": 1001.0}, {"price": None, "zip_code": None}]
    assert asked == ["/data?group_number=1&day=Tuesday"], "one call: the cursor moves with each"


@pytest.mark.parametrize(
    "detail",
    [
        "Ya se recolectó toda la información mínima necesaria",
        "Ya se recolecto toda la informacion minima necesaria",
        "ya se recolecto\u0301 todo",
        "YA SE RECOLECTÓ TODO",
    ],
)
def test_end_of_data_is_read_from_the_detail_whatever_its_accents(
    answering: Callable[[Answer], str], detail: str
) -> None:
    assert ask(answering(says(400, {"detail": detail}))) is None
    assert ask(answering(says(400, json.dumps({"detail": detail}, ensure_ascii=False).encode()))) is None


def test_end_of_data_in_another_encoding_is_the_end_too(answering: Callable[[Answer], str]) -> None:
    assert ask(answering(says(400, '{"detail": "Ya se recolectó todo"}'.encode("latin-1")))) is None


@pytest.mark.parametrize(
    ("status", "body", "told"),
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
def test_refusal_is_told_and_nothing_is_lost(
    answering: Callable[[Answer], str], status: int, body: Any, told: str
) -> None:
    with pytest.raises(DataError) as refused:
        ask(answering(says(status, body)))
    assert told in sentence(refused.value)
    assert not isinstance(refused.value, LostAnswer)


GOOD = {"batch_number": 1, "data": [{"price": 1}]}


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (says(200, json.dumps(GOOD).encode()[:-8]), "is no JSON"),
        (says(200, b""), "answer of 0 bytes is no JSON"),
        (says(200, b"<html>please sign in</html>"), "or is another program's"),
        (says(200, b"\xff\xfe\x00"), "is no JSON"),
        (says(200, json.dumps(GOOD).encode(), length=10_000), "broke off"),
        (says(200, {"data": [{}]}), "is no batch (Object missing required field `batch_number`): is this the right"),
        (says(200, {"batch_number": 1}), "missing required field `data`"),
        (says(200, []), "is no batch (Expected `object`, got `array`)"),
        (says(200, None), "is no batch (Expected `object`, got `null`)"),
        (says(200, {"batch_number": "1", "data": [{}]}), "got `str` - at `$.batch_number`"),
        (says(200, {"batch_number": True, "data": [{}]}), "got `bool` - at `$.batch_number`"),
        (says(200, {"batch_number": -1, "data": [{}]}), "`int` >= 0 - at `$.batch_number`"),
        (says(200, {"batch_number": 1, "data": []}), "length >= 1 - at `$.data`"),
        (says(200, {"batch_number": 1, "data": {"price": [1]}}), "got `object` - at `$.data`"),
        (says(200, {"batch_number": 1, "data": [[1, 2]]}), "Expected `object`, got `array` - at `$[0]`"),
        (says(200, b'{"batch_number": 1, "data": [{"city": "\xff"}]}'), "is no JSON"),
        (says(302, b""), "is no JSON"),
        (lambda handler: handler.connection.close(), "broke off"),
        (lambda handler: handler.wfile.write(b"rubbish\r\n\r\n"), "broke off"),
    ],
)
def test_answer_that_is_no_batch_is_lost_and_told(
    answering: Callable[[Answer], str], answer: Answer, told: str
) -> None:
    with pytest.raises(LostAnswer) as lost:
        ask(answering(answer))
    assert told in sentence(lost.value)


def test_silence_is_told_after_the_time_out_with_what_may_be_lost(answering: Callable[[Answer], str]) -> None:
    began = time.monotonic()
    with pytest.raises(LostAnswer) as late:
        ask(answering(lambda _: time.sleep(1)), timeout=0.2)
    assert time.monotonic() - began < 1
    assert "sent nothing for 0.2 s. Its cursor may have moved" in sentence(late.value)
    with pytest.raises(LostAnswer, match=r"sent nothing for 0\.2 s"):
        ask(answering(says(200, GOOD, delay=1)), timeout=0.2)


def test_slow_is_no_silence(answering: Callable[[Answer], str]) -> None:
    assert ask(answering(says(200, GOOD, delay=0.3)), timeout=0.5).content.batch_number == 1


def test_service_away_is_told_and_nothing_is_lost() -> None:
    with pytest.raises(DataError) as away:
        ask(f"http://127.0.0.1:{free_port()}")
    assert "cannot be reached" in sentence(away.value)
    assert "is it up, and may this pod reach it?" in sentence(away.value)
    assert not isinstance(away.value, LostAnswer)


def sentence(error: DataError) -> str:
    text = str(error)
    assert "\n" not in text
    assert len(text) < 500
    return text
