"""The external data API: one batch per call, and a call cannot be taken back.

A successful call moves the server's cursor, so a client that gives up waiting has lost that batch until the service is
restarted. Hence: one call, a long time-out, no retry in here, and an error of its own for a lost answer.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import BinaryIO

import httpx
import msgspec

from core.errors import DataError
from pipeline.body import Content, NoBatch, read

_END = "ya se recolect"  # of the detail at the end of data; what follows has accents that vary


@dataclass(frozen=True)
class Answer:
    """A batch as it came, and the size of its body in bytes."""

    content: Content
    size: int


class LostAnswer(DataError):
    """The service may have handed out a batch that did not arrive."""


def next_batch(url: str, group: int, day: str, timeout: float) -> Answer | None:
    """The next batch, or None at the end of data.

    Raises:
        LostAnswer: the service was slow beyond `timeout` seconds without a byte, broke off, or answered rubbish.
        DataError: it is away, or refused.
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
    except (httpx.ConnectError, httpx.ConnectTimeout) as away:
        raise DataError(
            f"the data API at {url} cannot be reached ({away!r}): is it up, and may this pod reach it?"
        ) from away
    except httpx.TimeoutException as late:
        raise LostAnswer(
            f"the data API at {url} sent nothing for {timeout:g} s. Its cursor may have moved: if so, that batch is a "
            "gap in the ledger until the data API is restarted and drained again"
        ) from late
    except httpx.HTTPError as broken:
        raise LostAnswer(
            f"the answer of the data API at {url} broke off ({broken!r}): run again; if its batch does not come, the "
            "ledger names the gap"
        ) from broken


def restart(url: str, group: int, day: str, timeout: float) -> None:
    """Put the cursor back to the first batch; doing it twice changes nothing.

    Raises:
        DataError: the service is away, or refused.
    """
    try:
        with httpx.Client(timeout=timeout, transport=httpx.HTTPTransport(retries=3)) as client:
            client.get(
                f"{url.rstrip('/')}/restart_data_generation", params={"group_number": group, "day": day}
            ).raise_for_status()
    except httpx.HTTPError as failed:
        raise DataError(
            f"the data API at {url} was not restarted ({failed!r}): run again, the ledger names the gaps"
        ) from failed


def _refuse_unless_end(answer: httpx.Response, group: int) -> None:
    text = answer.read().decode(errors="replace")
    try:
        detail = str(msgspec.json.decode(text)["detail"])
    except (msgspec.DecodeError, KeyError, TypeError):
        detail = text[:200]
    if answer.status_code == 400 and _END in detail.lower():
        return
    raise DataError(f"the data API refused group {group} with {answer.status_code}: {detail}")


def _read(body: BinaryIO) -> Answer:
    size = body.tell()
    try:
        return Answer(read(body), size)
    except NoBatch as rubbish:
        raise LostAnswer(f"the data API's answer of {size:,} bytes {rubbish}") from rubbish
