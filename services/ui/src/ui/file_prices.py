"""Prices the rows of a table by lists in `POST /predict`, one request after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import sleep
from typing import Any, NamedTuple

import polars as pl

from ui.predictor import (
    REPORTED_ERRORS,
    Json,
    ListTooLargeError,
    Predictor,
    RefusedListingsError,
    RefusedValue,
    RetryLaterError,
)

# Far below the default of `fastapi.config.maxListings`, so that other clients do not wait for a whole file and the
# progress bar moves. A predictor with a lower limit answers 413, and gets shorter lists.
ROWS_PER_REQUEST = 1_000
ATTEMPTS = 6  # of a request that the predictor refuses for now, or does not answer
LONGEST_WAIT_SECONDS = 10.0  # between two attempts
ADDED: dict[str, pl.DataType] = {
    "price": pl.Float64(),  # US dollars, as are `low` and `high`; null if `error` is not null
    "low": pl.Float64(),  # also null if the model has no prediction intervals
    "high": pl.Float64(),
    "model_version": pl.String(),
    "error": pl.String(),
    "request_id": pl.String(),
    "position": pl.Int64(),  # in the list of the request; feedback needs both
}
_TOO_LARGE = "the row is too large for a request: shorten its texts"


class RowPrice(NamedTuple):
    """The price of one row and what identifies it. Amounts are US dollars."""

    price: float
    low: float | None
    high: float | None
    model_version: str
    request_id: str
    position: int


class RowError(NamedTuple):
    """A broken rule of a row. `row` counts from 0; `field` is empty if the rule is about the whole row."""

    row: int
    field: str
    rule: str

    @property
    def text(self) -> str:
        """The error in the words of the batch job."""
        return f"{self.field}: {self.rule}" if self.field else self.rule


@dataclass
class PricedRows:
    """The prices of all rows in their order, None for a row with errors; and the errors in the order of the rows.

    The first `done` rows are finished.
    """

    prices: list[RowPrice | None]
    errors: list[RowError]
    done: int = 0

    @staticmethod
    def none(total: int) -> PricedRows:
        """No row is finished."""
        return PricedRows([None] * total, [])

    def columns(self) -> pl.DataFrame:
        """The columns `ADDED`, one row per row."""
        messages: dict[int, list[str]] = {}
        for error in self.errors:
            messages.setdefault(error.row, []).append(error.text)
        errors = ["; ".join(messages[row]) if row in messages else None for row in range(len(self.prices))]
        columns: dict[str, list[Any]] = {
            name: errors if name == "error" else [price and getattr(price, name) for price in self.prices]
            for name in ADDED
        }
        return pl.DataFrame(columns, schema=ADDED)


def price_rows(
    predictor: Predictor,
    listings: Callable[[int, int], list[Json]],
    priced: PricedRows,
    report: Callable[[RetryLaterError | None], object],
) -> None:
    """Price the rows after the first `priced.done`. Rows that the predictor refuses get errors, the others prices.

    Args:
        predictor: gives the prices.
        listings: the rows from a start to before a stop, as `POST /predict` takes them.
        priced: gets the prices and errors. After an exception it has those of the finished rows, and another call
            continues after them.
        report: is called after each request, with the reason if the request failed and will be sent again.

    Raises:
        PredictorError: the predictor does not answer; also after `ATTEMPTS` of a request.
    """
    total, size, largest = len(priced.prices), ROWS_PER_REQUEST, ROWS_PER_REQUEST
    while priced.done < total:
        stop = min(priced.done + size, total)
        part = _Part(priced.done, listings(priced.done, stop))
        try:
            _price_part(predictor, part, priced, report)
        except ListTooLargeError:
            if stop - priced.done == 1:
                priced.errors.append(RowError(priced.done, "", _TOO_LARGE))
                priced.done, largest = stop, ROWS_PER_REQUEST  # this row was the cause, not the number of rows
            else:
                size = largest = (stop - priced.done) // 2
        else:
            # After an answer full of errors, the next list is short: a long one would be sent many times over.
            complete = part.stop == stop
            size = min(2 * (size if complete else part.stop - priced.done), largest)
            priced.done = part.stop
        report(None)


class _Part:
    """Some of the rows from `start` to before `stop`: those that the predictor has not refused."""

    def __init__(self, start: int, listings: list[Json]) -> None:
        self.stop = start + len(listings)
        self.rows = dict(enumerate(listings, start))

    def refuse(self, values: list[RefusedValue]) -> list[RowError]:
        """Remove the refused rows. Returns their errors.

        An answer with `REPORTED_ERRORS` errors may lack errors of the last row that it names, and of later rows. So the
        part ends before that row, unless it is the only one.
        """
        numbers = list(self.rows)
        errors = [RowError(numbers[value.position], value.field, value.rule) for value in values]
        if len(errors) >= REPORTED_ERRORS and errors[0].row < errors[-1].row:
            self.stop = errors[-1].row
        errors = [error for error in errors if error.row < self.stop]
        wrong = {error.row for error in errors}
        self.rows = {row: listing for row, listing in self.rows.items() if row < self.stop and row not in wrong}
        return errors


def _price_part(
    predictor: Predictor, part: _Part, priced: PricedRows, report: Callable[[RetryLaterError], object]
) -> None:
    """Price the rows of a part up to its `stop`, which moves towards its start if an answer is full of errors.

    Raises:
        ListTooLargeError: the predictor accepts only shorter lists; nothing was added.
        PredictorError: see `price_rows`; nothing was added.
    """
    errors: list[RowError] = []
    answer: Json | None = None
    while part.rows and answer is None:
        try:
            answer = _ask(predictor, list(part.rows.values()), report)
        except RefusedListingsError as refused:
            errors += part.refuse(refused.values)
    priced.errors.extend(error for error in sorted(errors, key=lambda each: each.row) if error.row < part.stop)
    if answer is not None:
        _add(priced, list(part.rows), answer)


def _ask(predictor: Predictor, listings: list[Json], report: Callable[[RetryLaterError], object]) -> Json:
    """The answer for a list. Waits as long as the predictor asks for, and sends the list again."""
    for _ in range(ATTEMPTS - 1):
        try:
            return predictor.prices(listings)
        except RetryLaterError as refusal:
            report(refusal)
            sleep(min(refusal.seconds, LONGEST_WAIT_SECONDS))
    return predictor.prices(listings)


def _add(priced: PricedRows, numbers: list[int], answer: Json) -> None:
    """Add the prices of an answer. Their floats stay as they are, so that no bit changes."""
    unknown = [None] * len(numbers)
    ends = zip(answer["low"] or unknown, answer["high"] or unknown, strict=True)
    for position, (row, price, (low, high)) in enumerate(zip(numbers, answer["prices"], ends, strict=True)):
        priced.prices[row] = RowPrice(price, low, high, answer["model_version"], answer["request_id"], position)
