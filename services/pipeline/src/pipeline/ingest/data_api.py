"""Client of the external data API, which returns one batch per call. A call cannot be repeated.

A successful call moves the cursor of the server, so a client that gives up waiting loses that batch until the service
is restarted. Therefore this module makes one call with a long timeout, never retries it, and has its own error for a
lost answer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import httpx
import msgspec

from core.errors import DataError
from core.transport import http_transport
from pipeline.ingest.body import BatchContent, InvalidBody, read

MAX_ERROR_BYTES = 65_536  # of the text of a refusal
_END = "ya se recolect"  # start of the detail at the end of data; the accents in the rest vary


@dataclass(frozen=True)
class BatchAnswer:
    """A batch, and the size of its body in bytes."""

    content: BatchContent
    size: int


@dataclass(frozen=True)
class AnswerLimits:
    """Limits of one answer, so that a faulty service cannot occupy a stage or fill its disk."""

    idle_seconds: float  # without a byte
    total_seconds: float  # from the call to the last byte of the body
    max_bytes: int  # of the body, decompressed


class LostAnswer(DataError):
    """The service may have handed out a batch that did not arrive."""


def next_batch(url: str, group: int, day: str, limits: AnswerLimits) -> BatchAnswer | None:
    """The next batch, or None at the end of data.

    Raises:
        LostAnswer: the answer exceeds one of the limits, broke off, or is not a batch.
        DataError: the service cannot be reached, or refused the call.
    """
    deadline = time.monotonic() + limits.total_seconds
    # gzip alone: a body in several encodings, or in a newer one, could grow without a bound while one part is decoded
    headers = {"Accept-Encoding": "gzip"}
    timeout = httpx.Timeout(limits.idle_seconds, connect=10)
    try:
        with (
            httpx.Client(timeout=timeout, headers=headers, transport=http_transport(retries=3)) as client,
            tempfile.TemporaryFile() as body,
        ):
            with client.stream("GET", f"{url.rstrip('/')}/data", params={"group_number": group, "day": day}) as answer:
                if answer.is_error:
                    _refuse_unless_end(answer, group, limits, deadline)
                    return None
                for part in _parts(answer, limits, deadline):
                    if body.tell() + len(part) > limits.max_bytes:
                        raise LostAnswer(
                            f"the answer of the data API has more than {limits.max_bytes:,} bytes, so it was not read "
                            "to its end, and its batch is a gap in the ledger. If a batch may be that large, raise "
                            "airflow.pipeline.config.dataApiMaxBytes, and restart and drain the data API again"
                        )
                    body.write(part)
            body.flush()
            return _read(body)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise DataError(
            f"the data API at {url} cannot be reached ({error!r}). Check that it is up, and that a NetworkPolicy lets "
            "this pod reach it"
        ) from error
    except httpx.TimeoutException as error:
        raise LostAnswer(
            f"the data API at {url} sent nothing for {limits.idle_seconds:g} s. Its cursor may have moved: if so, that "
            "batch is a gap in the ledger until the data API is restarted and drained again"
        ) from error
    except httpx.HTTPError as error:
        raise LostAnswer(
            f"the answer of the data API at {url} broke off ({error!r}). Run again; if its batch does not come, the "
            "ledger names the gap"
        ) from error


def restart(url: str, group: int, day: str, timeout: float) -> None:
    """Move the cursor back to the first batch. Idempotent.

    Raises:
        DataError: the service cannot be reached, or refused the call.
    """
    try:
        with httpx.Client(timeout=timeout, transport=http_transport(retries=3)) as client:
            client.get(
                f"{url.rstrip('/')}/restart_data_generation", params={"group_number": group, "day": day}
            ).raise_for_status()
    except httpx.HTTPError as error:
        raise DataError(
            f"the data API at {url} was not restarted ({error!r}). Run again; the ledger names the gaps"
        ) from error


def _parts(answer: httpx.Response, limits: AnswerLimits, deadline: float) -> Iterator[bytes]:
    """The decompressed parts of a body.

    Raises:
        LostAnswer: the body is encoded in another way than asked for, or is not complete at the deadline.
    """
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise LostAnswer(
            f"the answer of the data API has the encoding {encoding[:50]!r}, but only gzip was asked for: check "
            "DATA_API_URL, and what stands between this pod and the service"
        )
    for part in answer.iter_bytes():
        if time.monotonic() > deadline:
            raise LostAnswer(
                f"the answer of the data API was not complete after {limits.total_seconds:g} s, although bytes kept "
                "coming. Its batch is a gap in the ledger until the data API is restarted and drained again. If the "
                "service needs more time, raise airflow.pipeline.config.dataApiTotalSeconds"
            )
        yield part


def _refuse_unless_end(answer: httpx.Response, group: int, limits: AnswerLimits, deadline: float) -> None:
    body = b""
    for part in _parts(answer, limits, deadline):
        body += part[:MAX_ERROR_BYTES]
        if len(body) >= MAX_ERROR_BYTES:
            break
    text = body.decode(errors="replace")
    try:
        detail = str(msgspec.json.decode(text)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        detail = text[:200]
    if answer.status_code == 400 and _END in detail.lower():
        return
    raise DataError(f"the data API refused group {group} with {answer.status_code}: {detail}")


def _read(body: BinaryIO) -> BatchAnswer:
    size = body.tell()
    try:
        return BatchAnswer(read(body), size)
    except InvalidBody as error:
        raise LostAnswer(f"the answer of the data API, {size:,} bytes, {error}") from error
