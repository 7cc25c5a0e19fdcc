"""Prices of many rows, with a predictor that checks listings like the real one."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from predictor.errors import InvalidBodyError, TooLargeError
from predictor.pricing import listing as rules
from ui import file_prices
from ui.file_prices import ADDED, PricedRows, price_rows
from ui.predictor import REPORTED_ERRORS, Json, Predictor, PredictorError


@dataclass
class Checked:
    """Answers `POST /predict` with prices that name their row. `refusals` come first, in their order."""

    max_listings: int = 10_000
    refusals: list[httpx.Response] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.refusals:
            return self.refusals.pop(0)
        self.sizes.append(len(json.loads(request.content)))
        try:
            listings, _ = rules.ListingParser(self.max_listings).parse(request.content)
        except InvalidBodyError as invalid:
            return httpx.Response(422, json={"detail": invalid.errors})
        except TooLargeError as large:
            return httpx.Response(413, json={"detail": str(large)})
        prices = [price_of(listing) for listing in listings]
        return httpx.Response(
            200,
            json={"request_id": f"r-{len(self.sizes)}", "model_name": "house-price", "model_version": "7"}
            | {"prices": prices, "low": [0.9 * price for price in prices], "high": None},
        )


def price_of(listing: Any) -> float:
    return 0.1 + (listing["street"] or 0) / 3


def priced(answer: Callable[[httpx.Request], httpx.Response], rows: list[Json]) -> tuple[PricedRows, list[int]]:
    """The prices of rows, and the reported progress."""
    progress: list[int] = []
    result = PricedRows.none(len(rows))
    price_rows(client(answer), lambda start, stop: rows[start:stop], result, lambda _: progress.append(result.done))
    return result, progress


def client(answer: Callable[[httpx.Request], httpx.Response]) -> Predictor:
    return Predictor("http://predictor:8000", transport=httpx.MockTransport(answer))


def test_reported_errors_are_as_many_as_the_predictor_reports() -> None:
    assert REPORTED_ERRORS == rules.REPORTED_ERRORS


def test_rows_keep_their_order_over_several_requests() -> None:
    answer = Checked()
    rows = [{"street": at} for at in range(2_500)]
    result, progress = priced(answer, rows)
    assert answer.sizes == [1_000, 1_000, 500]
    assert progress == [1_000, 2_000, 2_500]
    columns = result.columns()
    assert columns.columns == list(ADDED)
    assert columns["price"].to_list() == [price_of(row) for row in rows]
    assert columns["low"].to_list() == [0.9 * price_of(row) for row in rows]
    assert columns["high"].null_count() == columns["error"].null_count() == 2_500
    assert columns["request_id"].to_list() == ["r-1"] * 1_000 + ["r-2"] * 1_000 + ["r-3"] * 500
    assert columns["position"].to_list() == [*range(1_000), *range(1_000), *range(500)]


@settings(deadline=None)
@given(
    wrong=some.lists(some.sampled_from([(), (), ("bed",), ("bed", "bath", "city")]), max_size=300),
    max_listings=some.sampled_from([1, 7, 100, 10_000]),
)
def test_every_row_has_its_price_or_all_its_errors(wrong: list[tuple[str, ...]], max_listings: int) -> None:
    """For any number of errors, although an answer names at most a hundred, and for any limit of the predictor."""
    bad = {"bed": -1, "bath": "two", "city": 5}
    rows = [{"street": at, **{name: bad[name] for name in names}} for at, names in enumerate(wrong)]
    result, progress = priced(Checked(max_listings), rows)
    columns = result.columns()
    assert len(columns) == len(rows)
    assert progress[-1:] == ([len(rows)] if rows else [])
    for row, names in enumerate(wrong):
        error, price = columns["error"][row], columns["price"][row]
        if names:
            assert price is None
            assert [part.split(":")[0] for part in error.split("; ")] == list(names)
        else:
            assert error is None
            assert price == price_of(rows[row])
    assert [(error.row, error.field) for error in result.errors] == [
        (row, name) for row, names in enumerate(wrong) for name in names
    ]


def test_file_full_of_errors_is_not_sent_many_times_over() -> None:
    answer = Checked()
    result, _ = priced(answer, [{"bed": -1, "bath": -1, "house_size": -1}] * 5_000)
    assert len({error.row for error in result.errors}) == 5_000
    assert sum(answer.sizes) < 4 * 5_000


def test_numbers_that_json_does_not_have_get_the_rule_of_the_predictor() -> None:
    result, _ = priced(Checked(), [{"bed": float("inf")}, {"bed": float("nan")}, {"bed": 10**400}, {"street": 1}])
    assert [error.row for error in result.errors] == [0, 1, 2]
    assert all("finite number (allowed: 0 to 1,000)" in error.rule for error in result.errors)


def test_row_that_is_too_large_for_a_request_gets_an_error() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(413, json={"detail": "bytes"}) if len(request.content) > 5_000 else Checked()(request)

    result, _ = priced(answer, [{"street": 1}, {"city": "x" * 6_000}, {"street": 2}])
    assert [price is None for price in result.prices] == [False, True, False]
    assert result.columns()["error"][1] == "the row is too large for a request: shorten its texts"


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that the client waited."""
    seconds: list[float] = []
    monkeypatch.setattr(file_prices, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), (None, 1.0), ("soon", 1.0), ("3600", 10.0), ("-1", 0.0)])
def test_refused_request_is_repeated_after_the_time_that_the_predictor_names(
    waits: list[float], status: int, header: str | None, seconds: float
) -> None:
    headers = {} if header is None else {"Retry-After": header}
    refusals = [httpx.Response(status, headers=headers, json={"detail": "later"}) for _ in range(2)]
    result, _ = priced(Checked(refusals=refusals), [{"street": 3}])
    assert result.prices[0]
    assert waits == [seconds, seconds]


def test_predictor_that_stays_busy_ends_the_run_after_some_attempts(waits: list[float]) -> None:
    answer = Checked(refusals=[httpx.Response(503, json={"detail": "too many requests"}) for _ in range(100)])
    with pytest.raises(PredictorError, match="Too many requests"):
        priced(answer, [{"street": 3}])
    assert len(waits) == file_prices.ATTEMPTS - 1
    assert len(answer.refusals) == 100 - file_prices.ATTEMPTS


@pytest.mark.usefixtures("waits")
@settings(deadline=None)
@given(
    wrong=some.lists(some.sampled_from([(), (), ("bed",), ("bed", "city")]), min_size=1, max_size=60),
    faults=some.lists(some.booleans(), max_size=80),
)
def test_rows_priced_with_interruptions_are_those_priced_without(
    wrong: list[tuple[str, ...]], faults: list[bool]
) -> None:
    """The connection fails before any request, any number of times. Each call continues after the finished rows."""
    bad = {"bed": -1, "city": 5}
    rows = [{"street": at, **{name: bad[name] for name in names}} for at, names in enumerate(wrong)]
    checked, sequence = Checked(7), iter(faults)

    def answer(request: httpx.Request) -> httpx.Response:
        if next(sequence, False):
            raise httpx.ConnectError("refused")
        return checked(request)

    result, predictor = PricedRows.none(len(rows)), client(answer)
    while result.done < len(rows):
        with suppress(PredictorError):
            price_rows(predictor, lambda start, stop: rows[start:stop], result, lambda _: None)
    undisturbed, _ = priced(Checked(7), rows)
    assert [price and price.price for price in result.prices] == [price and price.price for price in undisturbed.prices]
    assert result.errors == undisturbed.errors


def test_lost_connection_is_reported_and_the_request_is_sent_again(waits: list[float]) -> None:
    answer, lost = Checked(), [True, True]

    def sometimes(request: httpx.Request) -> httpx.Response:
        if lost and lost.pop():
            raise httpx.ReadError("connection reset by peer")
        return answer(request)

    reports: list[str] = []
    result = PricedRows.none(1)
    price_rows(client(sometimes), lambda *_: [{"street": 3}], result, lambda error: reports.append(str(error or "")))
    assert result.prices[0]
    assert len(waits) == 2
    assert ["cannot be reached" in text for text in reports] == [True, True, False]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.Response(401, json={"detail": "no key"}), "refused the API key"),
        (httpx.Response(500, headers={"X-Request-ID": "r-9"}, json={"detail": "x"}), "request id r-9"),
        (httpx.Response(422, json={"detail": [{"loc": ["body"], "msg": "not JSON"}]}), "refused the rows: not JSON"),
    ],
)
def test_other_error_ends_the_run(answer: httpx.Response, words: str) -> None:
    with pytest.raises(PredictorError, match=words):
        priced(Checked(refusals=[answer]), [{"street": 3}])
