"""The page `Price` with a real predictor and a real ledger: its prices are recorded, and true prices come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row
from streamlit.testing.v1 import AppTest

from ci.local.processes import LocalPlatform
from predictor.pricing.listing import EXAMPLE
from tests.kit.local_predictor import serving
from tests.kit.small_models import Model
from tests.services.ledgers import new_ledger
from ui import price
from ui.predictor import Predictor

from .conftest import until

pytestmark = pytest.mark.services

KEY = "key-of-the-page"


@pytest.fixture
def dsn(local: LocalPlatform, request: pytest.FixtureRequest) -> str:
    """A ledger for one test."""
    return new_ledger(local, f"page_{abs(hash(request.node.nodeid))}")


@pytest.fixture
def url(local: LocalPlatform, dsn: str, tmp_path: Path, models: tuple[Model, Model]) -> Iterator[str]:
    """A predictor that requires a key, with a model and a ledger, but without MLflow."""
    keys = {"require_api_key": "true", "api_keys": f"{KEY},key-of-others"}
    with serving(local, models[0], tmp_path, dsn, **keys) as url:
        yield url


def price_page(url: str) -> AppTest:
    def script(show, predictor):  # type: ignore[no-untyped-def]  # Streamlit runs its source without the names above
        show(predictor)

    return AppTest.from_function(script, args=(price.show, Predictor(url, KEY)), default_timeout=60).run()


def test_price_of_the_page_is_recorded_and_its_true_price_counts_in_the_live_error(url: str, dsn: str) -> None:
    page = price_page(url)
    page.button[0].click().run()
    assert page.metric, [error.value for error in page.error]
    with psycopg.connect(dsn, row_factory=dict_row, autocommit=True) as connection:

        def rows() -> list[dict[str, Any]]:
            return connection.execute("select * from ledger.predictions").fetchall()

        until(rows)
        [row] = rows()
    assert any(f"`{row['request_id']}`" in caption.value for caption in page.caption)
    assert page.metric[0].value == f"${row['price']:,.0f}"
    assert (row["listing"], row["model_version"], row["status"], row["error"]) == (EXAMPLE, "1", 200, None)
    true = round(row["high"])
    page.number_input[-1].set_value(true)
    page.button[1].click().run()
    assert f"${true:,}" in page.success[0].value
    [error] = httpx.get(f"{url}/history").json()["live_errors"]
    assert (error["model_version"], error["count"]) == ("1", 1)
    assert error["mae"] == pytest.approx(true - row["price"])


def test_true_price_of_an_estimate_that_is_not_in_the_ledger_is_refused_with_advice(url: str, dsn: str) -> None:
    page = price_page(url)
    with psycopg.connect(dsn) as connection:
        connection.execute("lock table ledger.predictions in exclusive mode")  # reads go on, the log has to wait
        page.button[0].click().run()
        page.number_input[-1].set_value(250_000)
        page.button[1].click().run()
        assert "The ledger does not have this estimate" in page.error[0].value

    def sent() -> bool:
        page.button[1].click().run()
        return bool(page.success)

    until(sent)
