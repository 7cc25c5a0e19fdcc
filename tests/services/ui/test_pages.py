"""The pages, with a predictor that returns given answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import date
from functools import partial
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from streamlit.runtime.context import ContextProxy
from streamlit.testing.v1 import AppTest

import ui
from core.listing.schema import RANGES
from predictor.http.feedback import Feedback
from predictor.pricing.listing import form_schema
from tests.kit.history import EVIDENCE, SCORES
from ui import charts, history, model, price, similar_sales
from ui import estimate as estimates
from ui.predictor import COMPARABLES, Predictor
from ui.price import PricedListing
from ui.words import escaped, feature_value

SCHEMA = form_schema() | {"$defs": {"Feedback": Feedback.model_json_schema()}}
PRICE = {"request_id": "r-1", "model_name": "house-price", "model_version": "7", "price": 243_210.6} | {
    "low": 196_270.9,
    "high": 287_961.3,
    "base_value": 200_000.2,
    "contributions": [
        {"feature": "house_size", "title": "Area", "value": 1276.0, "shap_value": 0.2, "contribution": 44_000.4},
        {"feature": "status", "title": "Status", "value": "for_sale", "shap_value": 0.0, "contribution": -790.0},
        {"feature": "bed", "title": "Bedrooms", "value": None, "shap_value": 0.0, "contribution": 0.0},
    ],
}  # fmt: skip
MODEL = {
    "name": "house-price",
    "version": "7",
    "alias": "champion",
    "run_id": "5d1f",
    "loaded_at": "2026-11-24T10:12:13Z",
    "fingerprint": "3f2a91bc77de",
    "refused": [],
    "stale": False,
    "problem": None,
}
NO_HISTORY = {"batches": [], "gaps": []}
NO_SALES = httpx.Response(404, json={"detail": "version 7 of the model has no sales"})
Answers = dict[str, Any]
# imported here, because the imports of a page may take longer than its time limit on a busy machine
PAGES = {"price": price.show, "history": history.show} | {
    "model": partial(model.show, mlflow_url="https://mlflow.test", airflow_url="https://airflow.test")
}


def page(name: str, answers: Answers, address: dict[str, str] | None = None, **state: object) -> AppTest:
    """A page with a predictor that returns these answers by path. An exception stands for an unreachable predictor.

    `address` has the query parameters of the page, and `state` is what the visitor's session already holds.
    """

    def answer(request: httpx.Request) -> httpx.Response:
        body = answers[request.url.path] if request.url.path != COMPARABLES else answers.get(COMPARABLES, NO_SALES)
        if isinstance(body, Exception):
            raise body
        if callable(body):
            body = body(json.loads(request.content or "null"))
        return body if isinstance(body, httpx.Response) else httpx.Response(200, json=body)

    def script(show, predictor):  # type: ignore[no-untyped-def]  # Streamlit runs its source without the names above
        show(predictor)

    predictor = Predictor("http://predictor:8000", transport=httpx.MockTransport(answer))
    shown = AppTest.from_function(script, args=(PAGES[name], predictor), default_timeout=20)
    for parameter, text in (address or {}).items():
        shown.query_params[parameter] = text
    for key, value in state.items():
        shown.session_state[key] = value
    shown.run()
    assert not shown.exception, shown.exception
    return shown


def texts(shown: AppTest) -> str:
    parts = [*shown.error, *shown.warning, *shown.markdown, *shown.caption, *shown.title, *shown.header, *shown.info]
    parts += shown.success
    return "\n".join(part.value for part in parts)


def estimate(answers: Answers, change: Callable[[AppTest], None] = lambda _: None) -> AppTest:
    shown = page("price", {"/schema": SCHEMA, **answers})
    change(shown)
    shown.button[0].click().run()
    assert not shown.exception, shown.exception
    return shown


def test_form_has_every_field_of_the_schema_and_nothing_else() -> None:
    shown = page("price", {"/schema": SCHEMA})
    inputs = [*shown.selectbox, *shown.text_input, *shown.number_input, *shown.date_input]
    assert {each.key for each in inputs} == {*SCHEMA["properties"], "place query"}


def test_new_field_of_the_schema_gets_its_input() -> None:
    garage = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}], "title": "Garages", "examples": [1]}
    schema = {"properties": SCHEMA["properties"] | {"garage": garage}}
    assert page("price", {"/schema": schema}).number_input(key="garage").value == 1


def test_price_is_shown_with_its_model_and_request() -> None:
    shown = estimate({"/explain": PRICE})
    assert shown.metric[0].value == "$243,211"
    assert "house-price" in texts(shown)
    assert "**7**" in texts(shown)
    assert "r-1" in texts(shown)


def test_price_is_shown_with_its_interval_if_it_has_one() -> None:
    assert r"\$196,271 to \$287,961" in texts(estimate({"/explain": PRICE}))
    for without in ({**PRICE, "low": None, "high": None}, {k: v for k, v in PRICE.items() if k not in ("low", "high")}):
        shown = estimate({"/explain": without})
        assert shown.metric[0].value == "$243,211"
        assert "Four of five" not in texts(shown)


def test_price_is_shown_with_its_explanation() -> None:
    shown = estimate({"/explain": PRICE})
    assert r"the model expects a price of \$200,000" in texts(shown)
    table = shown.dataframe[0].value
    assert table["Feature"].tolist() == ["Area", "Status", "Bedrooms"]
    assert table["Value"].tolist() == ["1,276", "For sale", "unknown"]
    assert table["Adds"].tolist() == [44_000.4, -790.0, 0.0]


def test_untouched_form_sends_the_example_and_cleared_fields_are_left_out() -> None:
    sent: list[Any] = []

    def keep(listing: Any) -> Any:
        sent.append(listing)
        return PRICE

    def clear(shown: AppTest) -> None:
        shown.number_input(key="bed").set_value(None)
        shown.text_input(key="city").set_value("")
        shown.date_input(key="prev_sold_date").set_value(None)

    estimate({"/explain": keep})
    estimate({"/explain": keep}, clear)
    example = {name: field["examples"][0] for name, field in SCHEMA["properties"].items()}
    assert sent[0] == example
    assert sent[1] == {k: v for k, v in example.items() if k not in {"bed", "city", "prev_sold_date"}}


def test_refused_value_is_named_by_its_title() -> None:
    detail = [{"loc": ["body", "zip_code"], "msg": "ZIP code should be five digits", "type": "zip_code"}]
    shown = estimate({"/explain": httpx.Response(422, json={"detail": detail})})
    assert "**ZIP code**: ZIP code should be five digits" in texts(shown)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            httpx.Response(503, json={"detail": "no version has the alias champion"}),
            "No version has the alias champion.",
        ),
        (httpx.Response(503, json={"detail": "no version has the alias champion"}), "house_price_pipeline"),
        (httpx.Response(503, text="<html>"), "not available"),
        (httpx.Response(429, json={"detail": "the client API_KEYS ..."}), "Too many visitors"),
        (httpx.Response(500, headers={"X-Request-ID": "r-9"}, json={"detail": "x"}), "r-9"),
        (httpx.ConnectError("refused"), "cannot be reached"),
        (httpx.ReadTimeout("late"), "did not answer in time"),
    ],
)
def test_error_is_shown_with_advice(answer: Any, words: str) -> None:
    assert words in texts(estimate({"/explain": answer}))


def sell(answer: Any, price: int | None = 251_000, estimated: Any = PRICE) -> AppTest:
    """The page after an estimate, and after its true price was sent."""
    shown = estimate({"/explain": estimated, "/feedback": answer})
    shown.number_input[-1].set_value(price)
    shown.button[1].click().run()
    assert not shown.exception, shown.exception
    return shown


def test_true_price_is_sent_with_the_request_id_of_the_estimate_and_confirmed() -> None:
    sent: list[Any] = []

    def store(feedback: Any) -> Any:
        sent.append(feedback)
        return feedback | {"position": 0}

    shown = sell(store)
    assert sent == [{"request_id": "r-1", "price": 251_000}]
    assert r"\$251,000 is stored for request `r-1`" in shown.success[0].value
    assert shown.metric[0].value == "$243,211", "the estimate stays on the page"
    assert "Why this price" in texts(shown)


def test_true_price_has_the_limits_of_the_api_and_a_description() -> None:
    assert len(page("price", {"/schema": SCHEMA}).button) == 1, "there is nothing to send before the first estimate"
    true_price = estimate({"/explain": PRICE}).number_input[-1]
    assert (true_price.label, true_price.value) == ("It sold for", None)
    assert (true_price.min, true_price.max) == RANGES["price"]
    assert "1,000 to 1,000,000,000" in true_price.help


def test_page_asks_for_true_prices_of_an_earlier_predictor_without_limits() -> None:
    answers = {"/schema": form_schema(), "/explain": PRICE}
    true_price = estimate(answers).number_input[-1]
    assert (true_price.label, true_price.min, true_price.max) == ("It sold for", None, None)


def test_missing_true_price_is_not_sent() -> None:
    shown = sell(AssertionError("the page sent a request"), price=None)
    assert "Enter the price" in shown.warning[0].value


def test_refused_true_price_is_explained_in_words() -> None:
    rule = "Input should be less than or equal to 1000000000 (allowed: 1,000 to 1,000,000,000)"
    detail = [{"loc": ["body", "price"], "msg": rule, "type": "less_than_equal"}]
    shown = sell(httpx.Response(422, json={"detail": detail}))
    assert "Change them and try again." in shown.error[0].value
    assert f"**It sold for**: {rule}" in texts(shown)
    assert not shown.success


@pytest.mark.parametrize(
    ("answer", "words", "advice"),
    [
        (
            httpx.Response(404, json={"detail": "no price of request r-1"}),
            "does not have this estimate",
            "try again in",
        ),
        (httpx.Response(503, json={"detail": "the ledger is away"}), "The ledger is away.", "not stored: try again"),
        (
            httpx.Response(429, json={"detail": "the client API_KEYS ..."}),
            "Too many visitors",
            "Try again in a moment.",
        ),
        (httpx.Response(401, json={"detail": "no key"}), "refused the API key of this page", "API_KEYS in the Secret"),
        (
            httpx.Response(500, headers={"X-Request-ID": "r-9"}, json={"detail": "x"}),
            "an error (500)",
            "request id r-9",
        ),
        (httpx.ConnectError("refused"), "cannot be reached", "Check that its pods are running"),
        (httpx.ReadTimeout("late"), "did not answer in time", "Try again in a moment."),
    ],
)
def test_true_price_that_is_not_stored_is_shown_with_advice(answer: Any, words: str, advice: str) -> None:
    shown = sell(answer)
    assert words in shown.error[0].value
    assert advice in shown.error[0].value
    assert not shown.success
    assert shown.metric[0].value == "$243,211", "the estimate stays, so that the visitor can try again"


def test_next_estimate_replaces_the_last_one_and_begins_without_a_true_price() -> None:
    answers: Answers = {"/schema": SCHEMA, "/explain": PRICE, "/feedback": lambda feedback: feedback}
    shown = page("price", answers)
    shown.button[0].click().run()
    shown.number_input[-1].set_value(251_000)
    shown.button[1].click().run()
    answers["/explain"] = PRICE | {"request_id": "r-2", "price": 300_000.0}
    shown.button[0].click().run()
    assert shown.metric[0].value == "$300,000"
    assert shown.number_input[-1].value is None
    assert "r-1" not in texts(shown)
    answers["/explain"] = httpx.ConnectError("refused")
    shown.button[0].click().run()
    assert not shown.metric, "a failed estimate leaves no price that belongs to other values"


def test_visitor_who_returns_to_the_page_finds_the_estimate_and_its_listing() -> None:
    """Streamlit forgets the values of the inputs of a page when the visitor leaves it."""
    listing = {"status": "auctioned", "bed": 5, "acre_lot": 0.5, "prev_sold_date": "2001-02-03"}
    shown = page("price", {"/schema": SCHEMA}, estimate=PricedListing(listing, PRICE))
    assert shown.metric[0].value == "$243,211"
    inputs = [*shown.selectbox, *shown.text_input, *shown.number_input, *shown.date_input]
    values = {each.key: each.value for each in inputs if each.key in SCHEMA["properties"] and each.value is not None}
    assert values == listing | {"prev_sold_date": date(2001, 2, 3)}


@pytest.mark.parametrize(("name", "path"), [("price", "/schema"), ("history", "/history"), ("model", "/model")])
def test_page_shows_that_the_predictor_is_unreachable(name: str, path: str) -> None:
    shown = page(name, {path: httpx.ConnectError("refused")})
    assert "`http://predictor:8000` cannot be reached" in shown.error[0].value


def test_model_page_shows_version_and_state() -> None:
    shown = page("model", {"/model": MODEL, "/history": NO_HISTORY})
    assert [metric.value for metric in shown.metric] == ["house-price", "7", "champion"]
    assert not shown.warning


def test_model_page_shows_why_a_model_is_stale_and_which_versions_were_refused() -> None:
    refused = [
        {"version": "8", "run_id": "aa", "reason": "its manifest is wrong", "refused_at": "2026-11-24T10:20:00Z"}
    ]
    stale = MODEL | {"stale": True, "problem": "version 8 is refused", "refused": refused}
    shown = page("model", {"/model": stale, "/history": NO_HISTORY})
    assert shown.metric[2].value == "not confirmed"
    assert "Version 8 is refused." in shown.warning[0].value
    assert "its manifest is wrong" in shown.dataframe[0].value["reason"].tolist()


STORED: Answers = {
    "batch_number": 3,
    "sha256": "cd",
    "state": "stored",
    "rows": 4055,
    "received_at": "2026-11-24T10:30:00+00:00",
} | dict.fromkeys(
    [
        "valid",
        "quarantined",
        "quarantine",
        "duplicates",
        "decision",
        "reason",
        "decided_at",
        "run_id",
        "training_rows",
        "training_metrics",
        "trained_at",
        "version",
        "promoted",
        "verdict",
        "champion",
        "holdout_metrics",
        "verdict_at",
    ]
)
SKIPPED = STORED | {"state": "used", "valid": 4055, "quarantined": 0, "duplicates": 0, "quarantine": {}} | {
    "decision": "skip",
    "reason": "4,055 rows are fewer than 10,000",
    "decided_at": "2026-11-24T10:31:00+00:00",
}  # fmt: skip
REJECTED = SKIPPED | {
    "batch_number": 4,
    "sha256": "ef",
    "quarantined": 2,
    "quarantine": {"price below 1,000": 2},
    "decision": "train",
    "reason": "a new category",
    "run_id": "5d1f",
    "training_rows": 2800,
    "training_metrics": {"test": SCORES},
    "trained_at": "2026-11-24T10:32:00+00:00",
    "version": "2",
    "promoted": False,
    "verdict": "MAE $33,005 against $32,000 (+3.1%)",
    "champion": "1",
    "holdout_metrics": {"challenger": SCORES, "champion": SCORES | {"mae": 32_000.0}},
    "verdict_at": "2026-11-24T10:33:00+00:00",
}
PROMOTED = REJECTED | {
    "batch_number": 0,
    "run_id": "77ab",
    "training_metrics": {"train": SCORES, "test": SCORES | {"mae": 30_000.0, "coverage": 0.81}},
    "version": "1",
    "promoted": True,
    "verdict": "it is the first model",
    "champion": None,
    "holdout_metrics": {"challenger": SCORES, "champion": None},
}


def test_model_page_compares_the_served_model_with_the_newest_other_one() -> None:
    batches = [PROMOTED, STORED, REJECTED]
    shown = page("model", {"/model": MODEL | {"version": "1"}, "/history": {"batches": batches, "gaps": []}})
    assert [box.value for box in shown.selectbox] == [1, 2]
    text = texts(shown)
    assert "It is the first model." in text
    assert r"MAE \$33,005 against \$32,000 (+3.1%)." in text
    rows = {(row["Rows"], row["Measure"]): row for row in shown.dataframe[0].value.to_dict("records")}
    holdout = rows["holdout of the verdict on version 2", "MAE"]
    assert (holdout["Version 1"], holdout["Version 2"], holdout["Change"]) == ("$32,000", "$33,005", "+3.1 %")
    test = rows["test split", "MAE"]
    assert (test["Version 1"], test["Version 2"], test["Change"]) == ("$30,000", "$33,005", "+10.0 %")
    assert rows["test split", "R²"]["Change"] == "0.000"
    assert {split for split, _ in rows} == {"holdout of the verdict on version 2", "test split"}, "what both have"
    assert ("test split", "In the interval") not in rows

    shown.selectbox[0].set_value(2)
    shown.selectbox[1].set_value(1).run()
    rows = {(row["Rows"], row["Measure"]): row for row in shown.dataframe[0].value.to_dict("records")}
    holdout = rows["holdout of the verdict on version 2", "MAE"]
    assert (holdout["Version 2"], holdout["Version 1"], holdout["Change"]) == ("$33,005", "$32,000", "-3.0 %")

    newest = page("model", {"/model": MODEL | {"version": "2"}, "/history": {"batches": batches, "gaps": []}})
    assert [box.value for box in newest.selectbox] == [1, 2], "the older one first, so that a change is an improvement"

    shown.selectbox[1].set_value(2).run()
    assert not shown.dataframe, "a model is not compared with itself"
    assert not shown.exception


def test_change_of_a_share_is_shown_in_points() -> None:
    covered = [each | {"training_metrics": {"test": {"coverage": share}}}
               for each, share in ((PROMOTED, 0.81), (REJECTED, 0.785))]  # fmt: skip
    shown = page("model", {"/model": MODEL, "/history": {"batches": covered, "gaps": []}})
    row = shown.dataframe[0].value.to_dict("records")[-1]
    assert (row["Measure"], row["Version 1"], row["Change"]) == ("In the interval", "81.0 %", "-2.5 points")


def test_model_page_compares_nothing_with_one_model_or_without_a_ledger() -> None:
    one = page("model", {"/model": MODEL, "/history": {"batches": [PROMOTED], "gaps": []}})
    assert "needs two trained models" in texts(one)
    away = page("model", {"/model": MODEL, "/history": httpx.Response(503, json={"detail": "the ledger is away"})})
    assert "The ledger is away." in away.error[0].value
    assert [metric.value for metric in away.metric] == ["house-price", "7", "champion"]


def test_model_page_links_runs_and_actions() -> None:
    history = {"batches": [PROMOTED, REJECTED], "gaps": []}
    shown = page("model", {"/model": MODEL, "/history": history})
    links = {button.proto.label: button.proto.url for button in shown.get("link_button")}
    assert links["Run the pipeline"] == "https://airflow.test/dags/house_price_pipeline"
    assert links["Make an earlier version the champion"] == "https://airflow.test/dags/house_price_rollback"
    assert {button.proto.url for button in shown.get("link_button")} >= {
        "https://mlflow.test/#/runs/77ab",
        "https://mlflow.test/#/runs/5d1f",
    }


def test_history_shows_rows_decisions_and_verdicts_with_their_reasons() -> None:
    shown = page("history", {"/history": {"batches": [STORED, SKIPPED, REJECTED], "gaps": []}})
    text = texts(shown)
    assert [metric.value for metric in shown.metric] == ["2", "8,110", "1", "0"]
    for words in (
        "**Batch 3** &nbsp; :gray-badge[stored]",
        "**Batch 3** &nbsp; :gray-badge[skip]",
        "4,055 rows are fewer than 10,000.",
        "**Batch 4** &nbsp; :blue-badge[train] :orange-badge[rejected]",
        "4,055 listings; quarantined by validation: 2 for price below 1,000",
        r"MAE \$33,005, RMSE \$40,815, R² 0.520, MAPE 0.160",
        r"**Verdict on version 2.** MAE \$33,005 against \$32,000 (+3.1%).",
    ):
        assert words in text, text
    table = shown.dataframe[0].value
    assert table["Batch"].tolist() == [4, 3, 3], "the newest first"
    assert len(shown.get("vega_lite_chart")) == 2


MOVES = [
    {"version": "1", "before": None, "kind": "promotion", "reason": "it is the first model"},
    {"version": "2", "before": "1", "kind": "promotion", "reason": "MAE is better"},
    {"version": "1", "before": "2", "kind": "rollback", "reason": "prices of condos were absurd"},
]


def test_history_shows_the_evidence_of_a_decision_and_every_move_of_the_champion() -> None:
    moves = [{**move, "run": "by hand", "at": f"2026-11-24T1{at}:00:00+00:00"} for at, move in enumerate(MOVES)]
    batches = [STORED, REJECTED | {"evidence": EVIDENCE}]
    shown = page("history", {"/history": {"batches": batches, "gaps": [], "champions": moves}})
    assert r"MAE \$32,000 on this batch, \$30,000 on its holdout." in texts(shown)
    assert "MLflow run 77ab" in texts(shown)
    evidence, _, champions = (each.value for each in shown.dataframe)
    assert evidence["Column"].tolist() == ["price", "city"]
    assert champions["Version"].tolist() == ["1", "2", "1"], "the newest first"
    assert champions["Why"][0] == "prices of condos were absurd"


def test_history_shows_the_live_error_of_each_version() -> None:
    errors = [
        {"model_version": "1", "count": 3, "mae": 25_000.0, "median_ape": 0.12, "coverage": None},
        {"model_version": "2", "count": 1, "mae": 20_000.0, "median_ape": 0.1, "coverage": 0.75},
    ]
    shown = page("history", {"/history": {"batches": [SKIPPED], "gaps": [], "champions": [], "live_errors": errors}})
    assert "Live accuracy" in [each.value for each in shown.header]
    table = shown.dataframe[-1].value
    assert table["Version"].tolist() == ["2", "1"], "the newest first"
    assert table["Median error"].tolist() == pytest.approx([0.1, 0.12])
    assert table["In the interval"][0] == 0.75


def test_history_warns_of_rows_that_its_figures_leave_out() -> None:
    counts = [{"source": "feedback", "count": 1_200}, {"source": "predictions", "count": 0}]
    history = {"batches": [SKIPPED], "gaps": [], "champions": [], "live_errors": []}
    shown = page("history", {"/history": history | {"invalid_prices": counts}})
    assert "impossible price: 1,200 in `feedback`. No figure" in shown.warning[0].value
    counts[0]["count"] = 0
    assert not page("history", {"/history": history | {"invalid_prices": counts}}).warning


def test_form_has_the_ranges_of_the_schema() -> None:
    inputs = {each.key: (each.min, each.max) for each in page("price", {"/schema": SCHEMA}).number_input}
    assert inputs["bed"] == (0, 1_000)
    assert inputs["acre_lot"] == (0.0, 1_000_000.0)


def test_history_names_the_missing_batches() -> None:
    shown = page("history", {"/history": {"batches": [SKIPPED], "gaps": [0, 2]}})
    assert "Missing batches: 0, 2." in shown.warning[0].value


def test_history_before_the_first_batch_says_what_to_do() -> None:
    shown = page("history", {"/history": {"batches": [], "gaps": []}})
    assert "house_price_pipeline" in shown.info[0].value
    assert not shown.metric


@pytest.fixture
def whole_app(monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("PREDICTOR_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AIRFLOW_URL", "http://airflow.example")
    monkeypatch.delenv("MLFLOW_URL", raising=False)
    monkeypatch.delenv("GRAFANA_URL", raising=False)
    import streamlit as st

    st.cache_resource.clear()
    return AppTest.from_file(str(Path(ui.__path__[0]) / "app.py"), default_timeout=20)


def test_app_starts_without_a_predictor_and_links_the_configured_pages(whole_app: AppTest) -> None:
    shown = whole_app.run()
    assert not shown.exception, shown.exception
    assert "cannot be reached" in shown.error[0].value
    links = [element.proto for element in shown.sidebar if element.type == "link_button"]
    assert [(link.label, link.url) for link in links] == [("Airflow", "http://airflow.example")]


@pytest.mark.parametrize("user", ["viewer", "<img src=x onerror=alert(1)>", "**bold**"])
def test_app_shows_who_is_signed_in(whole_app: AppTest, monkeypatch: pytest.MonkeyPatch, user: str) -> None:
    monkeypatch.setattr(ContextProxy, "headers", {"X-Forwarded-User": user})
    [shown] = [element.proto.body for element in whole_app.run().sidebar if element.type == "html"]
    assert shown == f'Signed in as {escape(user)} · <a href="/oauth2/sign_out?rd=%2F" target="_self">Sign out</a>'


def test_app_without_a_login_shows_no_user(whole_app: AppTest) -> None:
    assert not [element for element in whole_app.run().sidebar if element.type == "html"]


def test_missing_setting_is_named_with_its_chart_value(monkeypatch: pytest.MonkeyPatch) -> None:
    from ui.settings import load

    monkeypatch.delenv("PREDICTOR_URL", raising=False)
    with pytest.raises(
        ValueError, match=r"PREDICTOR_URL is not set: set the chart value streamlit\.config\.predictorUrl"
    ):
        load()


def charts_of(shown: AppTest) -> list[Any]:
    return [json.loads(chart.proto.spec) for chart in shown.get("vega_lite_chart")]


def test_bars_of_the_waterfall_lead_from_the_base_value_to_the_price() -> None:
    bars = charts.steps(PRICE)
    assert [(bar.kind, bar.text) for bar in bars] == [
        ("total", "$200,000"),
        ("adds", "+$44,000"),
        ("takes off", "-$790"),
        ("adds", "+$0"),
        ("total", "$243,211"),
    ]
    assert bars[0].start == bars[-1].start == 0
    for before, after in pairwise(bars[:-1]):
        assert after.start == before.end
    assert bars[-2].end == pytest.approx(bars[-1].end), "the contributions do not add up"


def test_small_contributions_share_one_bar() -> None:
    contributions = [{**PRICE["contributions"][0], "title": f"T{at}", "contribution": 100.0 * at} for at in range(20)]
    bars = charts.steps(PRICE | {"contributions": contributions, "price": 200_000.2 + 19_000})
    assert [bar.label for bar in bars[-2:]] == ["12 other values", "Estimated price"]
    assert len(bars) == 8 + 3
    assert bars[-2].end == pytest.approx(bars[-1].end)


def test_price_and_reasons_are_shown_as_charts_and_in_words() -> None:
    shown = estimate({"/explain": PRICE})
    assert len(charts_of(shown)) == 2, "the interval and the waterfall"
    text = texts(shown)
    assert r"- The living area of **1,276** square feet adds \$44,000" in text
    assert r"- The status (**For sale**) takes off \$790" in text
    assert "Bedrooms" not in text, "it neither adds nor takes off anything"
    without = estimate({"/explain": {**PRICE, "low": None, "high": None}})
    assert len(charts_of(without)) == 1, "no interval, no chart of it"


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:y)", "**b** $a$ :red[c]", "![i](http://h/i)"]
)
def test_text_of_a_visitor_is_shown_as_text(text: str) -> None:
    contributions = [{**PRICE["contributions"][1], "value": text}]
    sentence = estimates.sentences(PRICE | {"contributions": contributions})[0]
    for character in "<[*$!(":
        assert (
            re.search(rf"(?<!\\)\{character}", sentence.replace("The status (**", "").replace("**) takes", "")) is None
        )


def test_moved_slider_asks_for_the_price_of_the_changed_listing_only() -> None:
    sent: list[Any] = []

    def price_of(listing: Any) -> Any:
        sent.append(listing)
        return PRICE | {"price": 260_000.6}

    shown = estimate({"/explain": PRICE, "/predict": price_of})
    assert {slider.label for slider in shown.slider} == {
        "Living area (square feet)", "Lot (acres)", "Bedrooms", "Bathrooms"
    }  # fmt: skip
    assert not sent, "no price is asked for before a slider moves"
    size = shown.slider[0]
    assert (size.min, size.value, size.max) == (626, 1276, 2552)
    size.set_value(1526).run()
    assert not shown.exception, shown.exception
    example = {name: field["examples"][0] for name, field in SCHEMA["properties"].items()}
    assert sent == [example | {"house_size": 1526}]
    assert (shown.metric[-1].value, shown.metric[-1].delta) == ("$260,001", "+$16,790")
    assert shown.metric[0].value == "$243,211", "the estimate itself does not change"


def test_sliders_stay_within_the_limits_of_the_fields() -> None:
    most = {name: RANGES[name].most for name in ("house_size", "acre_lot", "bed", "bath")}
    listing = {name: int(value) if name != "acre_lot" else value for name, value in most.items()}
    shown = page("price", {"/schema": SCHEMA}, estimate=PricedListing(listing, PRICE))
    assert len(shown.slider) == 4
    for slider in shown.slider:
        assert slider.value <= slider.max
    unknown = page("price", {"/schema": SCHEMA}, estimate=PricedListing({"city": "Agawam"}, PRICE))
    assert not unknown.slider
    assert not unknown.exception


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.ConnectError("refused"), "cannot be reached"),
        (httpx.Response(503, json={"detail": "no model is loaded yet"}), "No model is loaded yet."),
        (httpx.Response(422, json={"detail": [{"loc": ["body", "bed"], "msg": "too many"}]}), "**Bedrooms**: too many"),
    ],
)
def test_failed_price_of_a_changed_listing_is_explained(answer: Any, words: str) -> None:
    shown = estimate({"/explain": PRICE, "/predict": answer})
    shown.slider[2].set_value(4).run()
    assert words in texts(shown)
    assert shown.metric[0].value == "$243,211"


def test_address_of_the_page_asks_the_same_question_again() -> None:
    shown = estimate({"/explain": PRICE}, lambda form: form.number_input(key="bed").set_value(4))
    address = dict(shown.query_params)
    assert address["bed"] == "4"
    opened = page("price", {"/schema": SCHEMA}, {name: value for name, value in address.items() if name != "bath"})
    inputs = [*opened.selectbox, *opened.text_input, *opened.number_input, *opened.date_input]
    example = {name: field["examples"][0] for name, field in SCHEMA["properties"].items()}
    expected = example | {"bed": 4, "bath": None, "prev_sold_date": date(2012, 10, 12)}
    assert {each.key: each.value for each in inputs if each.key in expected} == expected


@pytest.mark.parametrize(
    "address",
    [
        {"bed": "many"}, {"bed": "-3"}, {"bed": "2.5"}, {"bed": "9" * 5000}, {"acre_lot": "nan"}, {"acre_lot": "inf"},
        {"prev_sold_date": "2999-01-01"}, {"prev_sold_date": "yesterday"}, {"house_size": ""}, {"garage": "1"},
    ],
)  # fmt: skip
def test_impossible_value_in_the_address_is_left_out(address: dict[str, str]) -> None:
    shown = page("price", {"/schema": SCHEMA}, address | {"city": "Springfield"})
    assert shown.text_input(key="city").value == "Springfield"
    inputs = [*shown.selectbox, *shown.text_input, *shown.number_input, *shown.date_input]
    assert [each.key for each in inputs if each.value and each.key in SCHEMA["properties"]] == ["city"]


FOUND = {
    "places": [
        {"state": "Massachusetts", "city": "Agawam", "zip_code": "01001", "sales": 1_018},
        {"state": "Oregon", "city": "Agate Beach", "zip_code": None, "sales": 2},
    ]
}


def search(answer: Any, priced: Any = PRICE) -> AppTest:
    """The price page after a search for a place."""
    shown = page("price", {"/schema": SCHEMA, "/places": answer, "/explain": priced})
    shown.text_input(key="place query").set_value("aga").run()
    assert not shown.exception, shown.exception
    return shown


@pytest.mark.parametrize(
    ("choice", "state", "city", "zip_code"),
    [
        ("01001 Agawam, Massachusetts (1,018 sales)", "Massachusetts", "Agawam", "01001"),
        ("Agate Beach, Oregon (2 sales)", "Oregon", "Agate Beach", None),
    ],
)
def test_chosen_place_fills_in_state_city_and_zip_code(
    choice: str, state: str, city: str, zip_code: str | None
) -> None:
    sent: list[Any] = []
    shown = search(FOUND, priced=lambda listing: sent.append(listing) or PRICE)
    places = shown.selectbox[0]
    assert len(places.options) == 2
    places.set_value(places.options.index(choice)).run()
    assert not shown.exception, shown.exception
    assert shown.selectbox(key="state").value == state
    assert shown.text_input(key="city").value == city
    assert shown.text_input(key="zip_code").value == zip_code
    shown.number_input(key="bed").set_value(5)
    shown.button[0].click().run()
    place = {"state": state, "city": city, "zip_code": zip_code}
    assert {name: sent[0].get(name) for name in (*place, "bed")} == {**place, "bed": 5}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"places": []}, "knows no place that begins like this"),
        (httpx.Response(404, json={"detail": "Not Found"}), "knows no place that begins like this"),
        (httpx.ConnectError("refused"), "cannot be reached"),
        (httpx.Response(503, json={"detail": "no model is loaded yet"}), "No model is loaded yet."),
    ],
)
def test_search_without_a_place_leaves_the_form(answer: Any, words: str) -> None:
    shown = search(answer)
    assert words in texts(shown)
    assert shown.text_input(key="city").value == "Agawam", "the example stays"


def test_icon_of_the_pages_is_not_asked_from_another_host() -> None:
    app = Path(ui.__file__).with_name("app.py")
    assert "page_icon=" in app.read_text()
    assert 'page_icon=":' not in app.read_text(), "a browser asks a font service for named icons"
    assert app.with_name("icon.svg").read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [("hedonic", 12.37, ""), ("city_premium", 0.41, ""), ("zip_code", 1001.0, "01001"), ("zip_code", None, "unknown"),
     ("house_size", 1276.0, "1,276"), ("street", 1698080.0, "1698080"), ("status", "for_sale", "For sale")],
)  # fmt: skip
def test_value_of_a_feature_is_formatted_for_people(feature: str, value: Any, text: str) -> None:
    assert feature_value({"feature": feature, "value": value}) == text


SALE = {
    "price": 251_000.0, "sold_on": "2021-06-30", "house_size": 1_396.0, "acre_lot": 0.11, "bed": 4.0, "bath": None,
    "zip_code": "01001", "city": "Agawam", "state": "Massachusetts", "same": "zip_code", "distance": 1.0,
    "differences": [{"field": "bed", "difference": 1.0, "steps": 1.0}],
}  # fmt: skip


def test_similar_sales_are_shown_below_the_price() -> None:
    shown = estimate({"/explain": PRICE, COMPARABLES: {"sales": [SALE, SALE | {"zip_code": None}]}})
    assert "Similar sales" in [header.value for header in shown.header]
    frame = next(table.value for table in shown.dataframe if "Why it is similar" in table.value)
    assert frame["Why it is similar"].to_list() == ["same ZIP code, bedrooms +1"] * 2
    assert frame["Bathrooms"].to_list() == ["unknown"] * 2
    assert escaped("01001 Agawam: 1 house, $251,000") in texts(shown), "the map has a text beside it"


def test_question_for_similar_sales_has_the_fields_of_the_estimate() -> None:
    requests: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request.url)
        return httpx.Response(200, json={"sales": []})

    predictor = Predictor("http://predictor:8000", transport=httpx.MockTransport(answer))
    assert similar_sales.find(predictor, {"bed": 3, "zip_code": "01001", "status": "sold", "city": "A & B"}).sales == []
    assert dict(requests[0].params) == {"bed": "3", "zip_code": "01001", "city": "A & B"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"sales": []}, "The model knows no sale in this place"),
        (httpx.ConnectError("refused"), "cannot be reached"),
        (httpx.Response(503, json={"detail": "too many requests"}), "Too many requests."),
        (httpx.Response(500, json={"detail": "bug"}), "answered with an error (500)"),
    ],
)
def test_price_is_shown_without_similar_sales(answer: Any, words: str) -> None:
    shown = estimate({"/explain": PRICE, COMPARABLES: answer})
    assert words in texts(shown)
    assert shown.metric[0].value == "$243,211"


def test_predictor_without_sales_gets_no_section() -> None:
    assert "Similar sales" not in [header.value for header in estimate({"/explain": PRICE}).header]
