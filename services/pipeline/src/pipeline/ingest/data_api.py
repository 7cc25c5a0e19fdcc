"""Client of the external data API, which returns one batch per call. A call cannot be repeated.

A successful call moves the cursor of the server, so a client that gives up waiting loses that batch until the service
is restarted. Therefore this module makes one call with a long timeout, never retries it, and has its own error for a
lost answer.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import BinaryIO

import httpx
import msgspec

from core.errors import DataError
from pipeline.ingest.body import BatchContent, InvalidBody, read

_END = "ya se recolect"  # start of the detail at the end of data; the accents in the rest vary


@dataclass(frozen=True)
class BatchAnswer:
    """A batch, and the size of its body in bytes."""

    content: BatchContent
    size: int


class LostAnswer(DataError):
    """The service may have handed out a batch that did not arrive."""


def next_batch(url: str, group: int, day: str, timeout: float) -> BatchAnswer | None:
    """The next batch, or None at the end of data.

    Raises:
        LostAnswer: no byte came for `timeout` seconds, the answer broke off, or it is not a batch.
        DataError: the service cannot be reached, or refused the call.
    """
    limits = httpx.Timeout(timeout, connect=10)
    try:
        with (
            httpx.Client(timeout=limits, transport=httpx.HTTPTransport(retries=3)) as client,
            tempfile.TemporaryFile() as body,
        ):
            with client.stream("GET", f"{url.rstrip('/')}/data", params={"group_number": group, "day": day}) as answer:
                if answer.is_error:
                    _refuse_unless_end(answer, group)
                    return None
                for part in answer.iter_bytes():
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
            f"the data API at {url} sent nothing for {timeout:g} s. Its cursor may have moved: if so, that batch is a "
            "gap in the ledger until the data API is restarted and drained again"
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
        with httpx.Client(timeout=timeout, transport=httpx.HTTPTransport(retries=3)) as client:
            client.get(
                f"{url.rstrip('/')}/restart_data_generation", params={"group_number": group, "day": day}
            ).raise_for_status()
    except httpx.HTTPError as error:
        raise DataError(
            f"the data API at {url} was not restarted ({error!r}). Run again; the ledger names the gaps"
        ) from error


def _refuse_unless_end(answer: httpx.Response, group: int) -> None:
    text = answer.read().decode(errors="replace")
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
