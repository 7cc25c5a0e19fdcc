"""The page Files, with a predictor that returns given answers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx
import polars as pl
import pytest
from streamlit.testing.v1 import AppTest

from predictor.pricing.listing import form_schema
from ui import file_prices, files
from ui.file_prices import ADDED
from ui.predictor import Predictor
from ui.table_files import to_csv, to_parquet

Answer = Callable[[list[dict[str, Any]]], httpx.Response]
SCHEMA = httpx.Response(200, json=form_schema())
THREE = b"id,bed,zip_code\na,1,01001\nb,2,01002\nc,3,\n"
RULE = "Input should be a valid number"


def price_each(listings: list[dict[str, Any]], version: str = "7") -> httpx.Response:
    """A price for each listing, by its bedrooms."""
    prices = [100_000.1 * listing.get("bed", 0) for listing in listings]
    identity = {"request_id": "r-1", "model_name": "house-price", "model_version": version}
    return httpx.Response(200, json={**identity, "prices": prices, "low": prices, "high": prices})


def refuse_texts(listings: list[dict[str, Any]]) -> httpx.Response:
    """As `price_each`, but bedrooms must be numbers."""
    wrong = [at for at, listing in enumerate(listings) if isinstance(listing.get("bed"), str)]
    detail = [{"loc": ["body", at, "bed"], "msg": RULE, "type": "float_type"} for at in wrong]
    return httpx.Response(422, json={"detail": detail}) if wrong else price_each(listings)


class Page:
    """The page, and the lists that it sent."""

    def __init__(self, answer: Answer = price_each, schema: Any = SCHEMA) -> None:
        self.sent: list[list[dict[str, Any]]] = []

        def respond(request: httpx.Request) -> httpx.Response:
            if request.url.path == "/schema":
                if isinstance(schema, Exception):
                    raise schema
                return httpx.Response(200, content=schema.content)
            self.sent.append(json.loads(request.content))
            return answer(self.sent[-1])

        def script(show, predictor):  # type: ignore[no-untyped-def]  # Streamlit runs its source without the names above
            show(predictor)

        predictor = Predictor("http://predictor:8000", transport=httpx.MockTransport(respond))
        self.shown = AppTest.from_function(script, args=(files.show, predictor), default_timeout=20).run()

    def upload(self, content: bytes, name: str = "houses.csv") -> AppTest:
        self.shown.file_uploader[0].set_value((name, content, "application/octet-stream")).run()
        assert not self.shown.exception, self.shown.exception
        return self.shown

    def price(self, content: bytes, name: str = "houses.csv") -> AppTest:
        self.upload(content, name)
        self.shown.button[0].click().run()
        assert not self.shown.exception, self.shown.exception
        return self.shown

    @property
    def texts(self) -> str:
        shown = self.shown
        parts = [*shown.error, *shown.warning, *shown.markdown, *shown.caption, *shown.header]
        return "\n".join(part.value for part in parts)

    @property
    def output(self) -> pl.DataFrame:
        """The table that the downloads have."""
        output: pl.DataFrame = self.shown.session_state["file result"].output
        return output


def test_upload_is_priced_after_the_button_only() -> None:
    page = Page()
    shown = page.upload(THREE)
    assert [button.label for button in shown.button] == ["Estimate the prices"]
    assert "Rows: 3." in page.texts
    assert not page.sent
    assert not shown.metric
    shown.button[0].click().run()
    assert page.sent == [[{"bed": 1.0, "zip_code": 1001.0}, {"bed": 2.0, "zip_code": 1002.0}, {"bed": 3.0}]]
    assert [metric.value for metric in shown.metric] == ["3", "0", "$200,000"]
    assert [button.label for button in shown.get("download_button")] == [
        "Download a template", "Download CSV", "Download Parquet"
    ]  # fmt: skip


def test_result_has_the_columns_of_the_file_and_exact_prices() -> None:
    page = Page()
    page.price(THREE)
    assert page.output.columns == ["id", "bed", "zip_code", *ADDED]
    assert page.output.select("id", "bed", "zip_code").rows() == [
        ("a", "1", "01001"),
        ("b", "2", "01002"),
        ("c", "3", None),
    ]
    assert page.output["price"].to_list() == [100_000.1 * bed for bed in (1, 2, 3)]
    assert page.output["request_id"].to_list() == ["r-1"] * 3
    read = pl.read_csv(io.BytesIO(to_csv(page.output)), schema_overrides={"price": pl.Float64})
    assert read["price"].equals(page.output["price"]), "a number of the CSV file has all its digits"
    assert pl.read_parquet(io.BytesIO(to_parquet(page.output))).equals(page.output)


def test_errors_of_rows_are_listed_with_the_row_of_the_file_and_other_rows_get_prices() -> None:
    page = Page(refuse_texts)
    shown = page.price(b"id,bed\na,1\nb,many\nc,3\nd,=1+1\n")
    assert [metric.value for metric in shown.metric][:2] == ["2", "2"]
    errors = shown.dataframe[0].value
    assert errors.to_dict("records") == [
        {"Row": 3, "Field": "bed", "Value": "many", "Rule": RULE},
        {"Row": 5, "Field": "bed", "Value": "=1+1", "Rule": RULE},
    ]
    assert page.output["error"].to_list() == [None, f"bed: {RULE}", None, f"bed: {RULE}"]
    assert page.output["price"].is_null().to_list() == [False, True, False, True]
    shown = page.price(to_parquet(pl.DataFrame({"bed": ["1"]})), "houses.parquet")
    assert shown.dataframe[0].value["Row"].tolist() == [1], "Parquet has no header"
    assert [metric.value for metric in shown.metric] == ["0", "1", "none"]


def test_download_asks_for_nothing_and_a_new_upload_clears_the_prices() -> None:
    page = Page()
    shown = page.price(THREE)
    for button in shown.get("download_button"):
        button.click()
    shown.run()
    assert len(page.sent) == 1
    assert shown.metric[0].value == "3"
    assert not shown.button, "the prices are there, so there is nothing to start"
    shown = page.upload(b"bed\n4\n", "others.csv")
    assert not shown.metric
    assert [button.label for button in shown.button] == ["Estimate the prices"]
    shown.button[0].click().run()
    assert len(page.sent) == 2
    assert "others" in shown.header[0].value


def test_fault_of_the_file_is_shown_as_text() -> None:
    page = Page()
    shown = page.upload(b"bed,city\n3,A,4\n", "![i](http://h/i).csv")
    assert "damaged" in shown.error[0].value
    assert "![i](" not in shown.error[0].value
    assert not shown.button
    assert not page.sent


def test_columns_that_do_not_count_are_named() -> None:
    page = Page()
    page.upload(b"zipcode,bed,note\n1001,3,x\n")
    assert r"Column zipcode is not a field of a listing. If it has the values of *zip\_code*" in page.texts
    assert "do not change a price: zipcode, note." in page.texts
    assert "which count as unknown: status, bath," in page.texts


def test_file_with_the_name_of_an_added_column_gets_a_prefix() -> None:
    page = Page()
    shown = page.upload(b"bed,price,estimated_price\n3,1,2\n")
    assert r"already has these columns: estimated\_price" in shown.error[0].value
    assert not shown.button
    shown.text_input[0].set_value("model_").run()
    shown.button[0].click().run()
    assert not shown.exception, shown.exception
    assert page.output.columns == ["bed", "price", "estimated_price", *(f"model_{name}" for name in ADDED)]
    assert page.output["price"].to_list() == ["1"]
    assert [metric.value for metric in shown.metric][2] == "$300,000"


def test_unreachable_predictor_is_shown() -> None:
    page = Page(schema=httpx.ConnectError("refused"))
    assert "`http://predictor:8000` cannot be reached" in page.texts
    assert not page.shown.get("file_uploader")


def test_error_while_a_file_is_priced_keeps_the_upload_and_the_button(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(file_prices, "sleep", waits.append)
    busy = True

    def answer(listings: list[dict[str, Any]]) -> httpx.Response:
        return httpx.Response(503, json={"detail": "no model is loaded yet"}) if busy else price_each(listings)

    page = Page(answer)
    shown = page.price(THREE)
    assert "No model is loaded yet." in page.texts
    assert shown.button[0].label == "Estimate the prices"
    assert len(waits) == file_prices.ATTEMPTS - 1
    assert not shown.metric
    busy = False
    shown.button[0].click().run()
    assert shown.metric[0].value == "3"
    assert not shown.error


def test_file_continues_after_the_rows_that_are_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_prices, "sleep", lambda _: None)
    monkeypatch.setattr(file_prices, "ROWS_PER_REQUEST", 2)
    away = True

    def answer(listings: list[dict[str, Any]]) -> httpx.Response:
        if away and len(listings) == 1:
            raise httpx.ConnectError("refused")
        return price_each(listings)

    page = Page(answer)
    shown = page.price(THREE)
    assert "cannot be reached" in page.texts
    assert "The first 2 of 3 rows are finished" in page.texts
    assert not shown.metric
    away, sent = False, len(page.sent)
    assert shown.button[0].label == "Continue"
    shown.button[0].click().run()
    assert [len(listings) for listings in page.sent[sent:]] == [1]
    assert not shown.error
    assert page.output["price"].to_list() == [100_000.1 * bed for bed in (1, 2, 3)]


def test_change_of_the_model_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_prices, "ROWS_PER_REQUEST", 2)
    page = Page(lambda listings: price_each(listings, "7" if len(listings) == 2 else "8"))
    page.price(THREE)
    assert "versions 7, 8" in page.texts
    assert page.output["model_version"].to_list() == ["7", "7", "8"]


def test_long_tables_are_shown_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SHOWN_ERRORS", 2)
    monkeypatch.setattr(files, "SHOWN_ROWS", 3)
    page = Page(refuse_texts)
    shown = page.price(b"bed\n" + b"x\n" * 5)
    assert len(shown.dataframe[0].value) == 2
    assert "the first 2 of 5 errors" in page.texts
    assert len(shown.dataframe[1].value) == 3
    assert page.output.height == 5
