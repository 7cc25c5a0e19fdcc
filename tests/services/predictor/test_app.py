"""The HTTP API: answers, errors, request ids, probes, OpenAPI. No other service runs."""

from __future__ import annotations

import json
import logging
import re
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY
from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware

import predictor.assembly
from ci.monitoring.queries import USED
from core.listing.parsing import parse_listings
from core.listing.schema import RANGES
from core.model.bundle import Bundle, load_bundle, write_bundle
from core.model.estimates import Explanation
from predictor import logs
from predictor.errors import NOT_FINITE
from predictor.http.auth import ADMIN
from predictor.http.load_shedding import LoadShedding
from predictor.http.one_listing import OneListing
from predictor.http.routes import EXPLAIN, PREDICT
from predictor.http.schemas import ExplainedPrice, Price, Prices
from predictor.pricing.listing import EXAMPLE, form_schema
from tests.kit.small_models import Model

from .conftest import ORIGIN, SETTINGS, Registry, until


def count(outcome: str, version: str = "1") -> float:
    labels = {"model_version": version, "outcome": outcome}
    return REGISTRY.get_sample_value("house_predictions_total", labels) or 0


def test_one_listing(client: TestClient) -> None:
    before = count("priced")
    answer = client.post("/predict", json=EXAMPLE, headers={"X-Request-ID": "mine-1"})
    assert answer.status_code == 200
    price, low, high = (answer.json()[name] for name in ("price", "low", "high"))
    assert answer.json() == {
        "request_id": "mine-1",
        "model_name": "house-price",
        "model_version": "1",
        "price": price,
        "low": low,
        "high": high,
    }
    assert 0 < low < price < high
    assert count("priced") == before + 1


def test_list_is_answered_in_order_and_like_single_listings(client: TestClient, models: tuple[Model, Model]) -> None:
    bundle: Bundle = models[0].bundle
    rows = [*bundle.golden_listings, EXAMPLE, {}] * 6
    answer = client.post("/predict", json=rows).json()
    single_answers = [client.post("/predict", json=row).json() for row in rows]
    for many, one, golden in (
        ("prices", "price", bundle.golden_prices),
        ("low", "low", bundle.golden_low),
        ("high", "high", bundle.golden_high),
    ):
        single = [each[one] for each in single_answers]
        assert answer[many] == single
        assert single[: len(bundle.golden_listings)] == golden
        assert client.post("/predict", json=rows[:1]).json()[many] == single[:1]


def test_model_of_an_earlier_release_answers_without_intervals(
    client: TestClient, registry: Registry, models: tuple[Model, Model], tmp_path: Path
) -> None:
    bundle = models[0].bundle
    text = (models[0].folder / "model.txt").read_text()
    sha256 = write_bundle(tmp_path / "old", text, bundle.encodings, parse_listings(bundle.golden_listings))
    with_intervals = client.post("/predict", json=[EXAMPLE, {}]).json()
    registry.add(Model(tmp_path / "old", sha256, load_bundle(tmp_path / "old")))
    until(lambda: client.get("/model").json()["version"] == "2")
    one, many = (client.post("/predict", json=body).json() for body in (EXAMPLE, [EXAMPLE, {}]))
    assert (one["price"], one["low"], one["high"]) == (with_intervals["prices"][0], None, None)
    assert (many["prices"], many["low"], many["high"]) == (with_intervals["prices"], None, None)
    explained = client.post("/explain", json=EXAMPLE).json()
    assert (explained["price"], explained["low"], explained["high"]) == (one["price"], None, None)
    ExplainedPrice.model_validate(explained)
    Price.model_validate(one)
    Prices.model_validate(many)


@pytest.mark.parametrize(
    "change",
    [
        {"city": "Nowhere at all"},
        {"status": "auctioned"},
        {"zip_code": "01001"},
        dict.fromkeys(EXAMPLE),
        {"state": None, "bed": 3},
        {"prev_sold_date": "1800-01-01", "house_size": 10_000_000, "bed": 5e-324, "street": 2**53 - 1},
    ],
    ids=["unknown city", "unknown status", "string zip", "all null", "no state, int bed", "extremes"],
)
def test_unusual_listing_is_priced(client: TestClient, change: dict[str, Any]) -> None:
    answer = client.post("/predict", json={**EXAMPLE, **change})
    assert answer.status_code == 200, answer.text
    assert answer.json()["price"] > 0


def test_all_spellings_of_a_zip_code_give_the_same_price(client: TestClient) -> None:
    prices = {client.post("/predict", json={**EXAMPLE, "zip_code": z}).json()["price"] for z in ("01001", 1001, 1001.0)}
    assert len(prices) == 1


def test_invalid_listing(client: TestClient) -> None:
    before = count("invalid")
    answer = client.post("/predict", json=[EXAMPLE, {**EXAMPLE, "bed": "many"}], headers={"X-Request-ID": "mine-2"})
    assert answer.status_code == 422
    assert answer.json() == {
        "detail": [
            {"loc": ["body", 1, "bed"], "msg": "Input should be a valid number", "type": "float_type", "input": "many"}
        ]
    }
    assert answer.headers["X-Request-ID"] == "mine-2"
    assert count("invalid") == before + 1


def test_documentation_loads_nothing_from_other_hosts(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "//" not in re.sub(r"<!--.*?-->", "", page.text, flags=re.DOTALL), "no URL of another host"
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert sorted(links) == ["docs/favicon.png", "docs/swagger-ui-bundle.js", "docs/swagger-ui.css"]
    types = {}
    for link in links:
        answer = client.get(f"/{link}")
        assert answer.status_code == 200, link
        types[link] = answer.headers["content-type"].partition(";")[0]
    assert types["docs/swagger-ui-bundle.js"] == "text/javascript"
    assert types["docs/swagger-ui.css"] == "text/css"
    assert client.get("/docs/other.js").status_code == 422


def test_too_much_in_one_request(client: TestClient) -> None:
    many = client.post("/predict", json=[{}] * 101)
    assert (many.status_code, many.json()) == (
        413,
        {"detail": "the request has more than 100 listings: send them in several requests"},
    )
    assert client.post("/predict", json=[{}] * 100).status_code == 200
    long = client.post("/predict", content=b" " * 200_000)
    assert long.status_code == 413
    assert "the body has more than 102400 bytes" in long.json()["detail"]


def test_large_body_is_refused_by_its_header_or_as_soon_as_it_exceeds_the_limit(client: TestClient) -> None:
    def refused() -> float:
        return REGISTRY.get_sample_value("house_requests_refused_total", {"reason": "too_large"}) or 0

    before = refused()
    assert client.post("/predict", content=(b" " * 1024 for _ in range(1000))).status_code == 413, (
        "without a Content-Length"
    )
    declared = client.post("/explain", content=b"{}", headers={"Content-Length": "102401"})
    assert (declared.status_code, declared.json()["detail"][:35]) == (413, "the body has more than 102400 bytes")
    assert client.post("/predict", content=b"{}" + b" " * 102_398).status_code == 200
    assert refused() == before + 2


def test_refusal_under_overload_has_a_request_id_and_is_counted(client: TestClient) -> None:
    client.get("/health/live")  # the first request builds the middleware
    layer: Any = client.app.middleware_stack  # type: ignore[attr-defined]
    layers: dict[type, Any] = {}
    while not isinstance(layer, LoadShedding):
        layers[type(layer)] = layer
        layer = layer.app
    assert PrometheusInstrumentatorMiddleware in layers
    series = {"handler": "/predict", "method": "POST", "status": "5xx"}
    for slots, body in ((layers[OneListing]._slots, EXAMPLE), (layer.slots, [EXAMPLE])):
        before = REGISTRY.get_sample_value("http_requests_total", series) or 0
        slots.count = slots.limit
        answer = client.post("/predict", json=body, headers={"X-Request-ID": "mine-6"})
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert answer.json() == {"detail": "the service already has 64 requests in flight, its limit: retry after 1 s"}
        assert answer.headers["X-Request-ID"] == "mine-6"
        assert REGISTRY.get_sample_value("http_requests_total", series) == before + 1
        assert client.get("/health/ready").status_code == 200
        assert client.get("/metrics").status_code == 200
        slots.count = 0
        assert client.post("/predict", json=body).status_code == 200


def test_openapi_has_the_maximum_length_of_a_list(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, most in (("/predict", SETTINGS.max_listings), ("/explain", SETTINGS.max_explained)):
        one, many = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
        assert one == {"$ref": "#/components/schemas/Listing"}
        assert (many["minItems"], many["maxItems"]) == (1, most)
        assert client.post(path, json=[EXAMPLE] * most).status_code == 200
        assert client.post(path, json=[EXAMPLE] * (most + 1)).status_code == 413


def test_without_a_model(empty: TestClient) -> None:
    until(lambda: "alias" in empty.get("/model").text)
    posts = [empty.post(path, json=EXAMPLE) for path in ("/predict", "/explain")]
    for answer in (*posts, empty.get("/model"), empty.get("/health/ready")):
        assert answer.status_code == 503
        assert answer.json() == {"detail": "no version of house-price has the alias champion: run the pipeline"}
        assert answer.headers["Retry-After"] == "5"
    assert empty.get("/health/live").json() == {"status": "alive"}
    assert empty.get("/schema").status_code == 200


def test_model_shows_the_served_and_the_refused_versions(
    client: TestClient, registry: Registry, models: tuple[Model, Model]
) -> None:
    body = client.get("/model").json()
    assert body.pop("loaded_at")
    fingerprint = models[0].bundle.fingerprint
    assert body == {
        "name": "house-price",
        "version": "1",
        "alias": "champion",
        "run_id": "run-1",
        "fingerprint": fingerprint,
        "refused": [],
        "stale": False,
        "shadow": None,
        "problem": None,
    }
    registry.add(models[1], manifest_sha256="0" * 64)
    until(lambda: client.get("/model").json()["stale"])
    body = client.get("/model").json()
    assert body["version"] == "1"
    assert body["refused"][0]["version"] == "2"
    assert "the registry says 000000000000" in body["refused"][0]["reason"]
    assert client.get("/health/ready").status_code == 200


@pytest.mark.parametrize("request_id", ["", "a b", "é", "x" * 129])
def test_unusable_request_id_is_replaced(client: TestClient, request_id: str) -> None:
    answer = client.post("/predict", json={}, headers={"X-Request-ID": request_id.encode()})
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]
    assert len(answer.json()["request_id"]) == 32


def test_every_answer_has_a_request_id(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    request_ids = [client.get(path).headers["X-Request-ID"] for path in ("/health/live", "/nowhere", "/metrics")]
    assert len(set(request_ids)) == 3
    monkeypatch.setattr(client.app.state.pricing, "answer", broken)  # type: ignore[attr-defined]
    failed = client.post("/predict", json={}, headers={"X-Request-ID": "mine-3"})
    assert failed.status_code == 500
    assert failed.json() == {"detail": "internal error: search the log of the service for request id mine-3"}
    assert failed.headers["X-Request-ID"] == "mine-3"


def test_history_without_the_ledger(client: TestClient) -> None:
    answer = client.get("/history")
    assert answer.status_code == 503
    assert "the ledger's database failed" in answer.json()["detail"]
    assert client.get("/health/ready").status_code == 200, "readiness does not depend on the ledger"


def test_version_shows_code_image_and_model(client: TestClient) -> None:
    version = client.get("/openapi.json").json()["info"]["version"]
    model = {"model_name": "house-price", "model_version": "1"}
    assert client.get("/version").json() == {"version": version, **ORIGIN, **model}


def test_version_needs_no_model(empty: TestClient) -> None:
    answer = empty.get("/version")
    assert answer.status_code == 200
    assert {name: answer.json()[name] for name in ORIGIN} == ORIGIN
    assert (answer.json()["model_name"], answer.json()["model_version"]) == (None, None)


def test_version_in_an_image_without_the_package_comes_from_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(predictor.assembly, "version", missing)
    assert predictor.assembly.create_app(SETTINGS.model_copy(update=ORIGIN)).version == "0.1.0"
    assert predictor.assembly.create_app(SETTINGS).version == "unknown"


def test_schema_is_the_forms_schema_with_the_rules_of_true_prices(client: TestClient) -> None:
    schema = client.get("/schema").json()
    price = schema.pop("$defs")["Feedback"]["properties"]["price"]
    assert schema == json.loads(json.dumps(form_schema()))
    assert (price["minimum"], price["maximum"]) == RANGES["price"]


def test_explanation_has_the_price_and_the_values_of_the_features(
    client: TestClient, models: tuple[Model, Model]
) -> None:
    before = count("explained")
    rows = [*models[0].bundle.golden_listings, EXAMPLE][-10:]
    one = client.post("/explain", json=EXAMPLE, headers={"X-Request-ID": "mine-5"}).json()
    many = client.post("/explain", json=rows, headers={"X-Request-ID": "mine-5"}).json()
    assert set(ExplainedPrice.model_validate(one).model_dump()) == set(one)
    assert [each["price"] for each in many["explanations"]] == client.post("/predict", json=rows).json()["prices"]
    assert many["explanations"][-1] | {name: many[name] for name in many if name != "explanations"} == one
    assert (one["request_id"], one["model_name"], one["model_version"]) == ("mine-5", "house-price", "1")
    values = {each["feature"]: each["value"] for each in one["contributions"]}
    assert (values["status"], values["house_size"]) == ("for_sale", 1276)
    assert count("explained") == before + 11


def test_explanations_fail_as_prices_do(client: TestClient) -> None:
    for body in ({"bed": "many"}, [], [{"zip_code": -1}], 3):
        explained, priced = (client.post(path, json=body) for path in ("/explain", "/predict"))
        assert (explained.status_code, explained.json()) == (422, priced.json())
    many = client.post("/explain", json=[{}] * 21)
    assert (many.status_code, many.json()) == (
        413,
        {"detail": "the request has more than 20 listings: send them in several requests"},
    )
    assert client.post("/explain", content=b" " * 200_000).status_code == 413


def test_explanations_of_a_price_that_is_not_finite_give_500(
    client: TestClient, models: tuple[Model, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    explain, before = Bundle.explain, count("failed")

    def infinite(bundle: Bundle, raw: Any) -> Explanation:
        explanation = explain(bundle, raw)
        explanation.estimates.prices[-1] = float("inf")
        return explanation

    monkeypatch.setattr(Bundle, "explain", infinite)
    for body in (EXAMPLE, [{}, EXAMPLE]):
        answer = client.post("/explain", json=body)
        assert (answer.status_code, answer.json()) == (500, {"detail": NOT_FINITE})
    assert count("failed") == before + 2


def test_alerts_and_latencies_cover_every_route_that_people_use(client: TestClient) -> None:
    def observed(metric: str, path: str) -> float:
        return REGISTRY.get_sample_value(f"{metric}_count", {"handler": path}) or 0

    paths = client.get("/openapi.json").json()["paths"]
    posts = {path for path, operations in paths.items() if "post" in operations and not path.startswith(ADMIN)}
    [pattern] = re.findall(r'handler=~"(.+)"', USED)
    assert {path for path in paths if re.fullmatch(pattern, path)} == posts
    for path in (PREDICT, EXPLAIN):
        before = observed("house_predict_seconds", path)
        client.post(path, json=EXAMPLE)
        client.post(path, json=[EXAMPLE])
        assert observed("house_predict_seconds", path) == before + 2


def test_openapi_lists_the_body_and_every_error(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/predict", "/explain"):
        described = document["paths"][path]["post"]
        assert set(described["responses"]) == {"200", "408", "413", "422", "503"}
        body = described["requestBody"]["content"]["application/json"]
        assert body["schema"]["anyOf"][0] == {"$ref": "#/components/schemas/Listing"}
        for example in body["examples"].values():
            assert client.post(path, json=example["value"]).status_code == 200
    assert set(document["components"]["schemas"]["Listing"]["properties"]) == set(EXAMPLE)
    for path in ("/model", "/history", "/health/ready"):
        assert "503" in document["paths"][path]["get"]["responses"], path
    assert set(document["components"]["schemas"]["Version"]["properties"]) == set(client.get("/version").json())
    references = set(json.dumps(document).split('"#/components/schemas/')[1:])
    assert all(reference.split('"')[0] in document["components"]["schemas"] for reference in references)


def test_metrics_have_our_names_and_those_of_http(client: TestClient) -> None:
    client.post("/predict", json=EXAMPLE)
    text = client.get("/metrics").text
    from core import metrics as names

    for name in (value for key, value in vars(names).items() if key.isupper()):
        assert f"\n# TYPE {name}" in f"\n{text}", name
    assert 'http_requests_total{handler="/predict",method="POST",status="2xx"}' in text


def test_log_line_is_json_with_the_request() -> None:
    record = logging.makeLogRecord({"name": "n", "levelname": "INFO", "msg": "x %s", "args": (1,), "run_id": "r"})
    token = logs.request_id.set("mine-4")
    try:
        line = json.loads(logs.JsonFormatter().format(record))
    finally:
        logs.request_id.reset(token)
    assert line.pop("time").startswith("20")
    assert line == {"level": "info", "logger": "n", "message": "x 1", "request_id": "mine-4", "run_id": "r"}
