"""Turns a request for prices into rows of the ledger's table of predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from pydantic_core import from_json, to_json

from predictor.pricing.answers import PriceAnswer, PricesAnswer
from predictor.pricing.listing import Listing
from predictor.record.spill import Row

MAX_BODY_CHARACTERS = 2_000  # of the body of a failed request
MAX_VALUE_CHARACTERS = 200  # of a text in a listing
MAX_ERROR_CHARACTERS = 1_000
REQUEST_BYTES = 1_000  # size of a request in the queue, in addition to its body and prices

_FIELDS = tuple(Listing.model_fields)


class LoggedRequest(NamedTuple):
    """A request after its answer."""

    at: float  # Unix time of its arrival
    request_id: str
    body: bytes
    answer: PriceAnswer | PricesAnswer | None  # None if the request failed
    model_version: str | None
    status: int
    error: str | None
    seconds: float

    @property
    def size(self) -> int:
        """Approximate bytes in the queue, including the numbers of its rows."""
        return REQUEST_BYTES + len(self.body) + 100 * self.row_count

    @property
    def row_count(self) -> int:
        """Number of rows: one per listing, and one for a failed request."""
        return len(self.answer["prices"]) if self.answer and "prices" in self.answer else 1


def rows_of(request: LoggedRequest) -> Iterator[Row]:
    """Rows with the columns of `core.ledger.predictions.PREDICTION`: one per listing, and one for a failed request."""
    at = datetime.fromtimestamp(request.at, UTC).isoformat()
    outcome = request.model_version, request.status, _text(request.error, MAX_ERROR_CHARACTERS), request.seconds
    if request.answer is None:
        yield at, request.request_id, 0, _beginning(request.body), None, None, None, *outcome
        return
    answer, sent = request.answer, from_json(request.body)
    if "price" in answer:
        yield at, request.request_id, 0, _listing(sent), answer["price"], answer["low"], answer["high"], *outcome
        return
    no_interval: Sequence[float | None] = [None] * len(sent)
    lows, highs = answer["low"] or no_interval, answer["high"] or no_interval
    for position, (listing, price, low, high) in enumerate(zip(sent, answer["prices"], lows, highs, strict=True)):
        yield at, request.request_id, position, _listing(listing), price, low, high, *outcome


def _listing(sent: Mapping[str, object]) -> str:
    """The fields of a listing as the client sent them, as JSON. Other fields may be private and are left out."""
    fields = {name: sent[name] for name in _FIELDS if name in sent}
    text = to_json(fields).decode()
    if len(text) > MAX_BODY_CHARACTERS or "\\u0000" in text:  # PostgreSQL cannot store this character
        text = to_json(
            {
                name: _text(value, MAX_VALUE_CHARACTERS) if isinstance(value, str) else value
                for name, value in fields.items()
            }
        ).decode()
    return text


def _beginning(body: bytes) -> str | None:
    """The beginning of the body of a failed request, as a JSON string; None if the body was not read."""
    if not body:
        return None
    return to_json(_text(body[: 4 * MAX_BODY_CHARACTERS].decode(errors="replace"), MAX_BODY_CHARACTERS)).decode()


def _text(text: str | None, max_characters: int) -> str | None:
    return None if text is None else text[:max_characters].replace("\0", "\N{REPLACEMENT CHARACTER}")
