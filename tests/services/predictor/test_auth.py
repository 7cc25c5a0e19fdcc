"""Admin routes require the admin key. Prices require one of the API keys if the settings say so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from prometheus_client import REGISTRY

import predictor.assembly
from core.errors import RegistryError, SettingsError
from predictor.assembly import create_app
from predictor.pricing.listing import EXAMPLE
from predictor.settings import PredictorSettings
from tests.kit.small_models import Model

from .conftest import Registry

ADMIN, KEYS = "the-admin-key", "first-key, second-key,,"
Start = Callable[..., TestClient]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def start(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Starts the service with some settings. It polls the registry once, and then only on `/admin/reload`."""
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_loading_test", lambda *_, **__: None)
    with ExitStack() as stack:

        def start(**settings: object) -> TestClient:
            defaults = PredictorSettings(
                model_name="house-price",
                model_alias="champion",
                mlflow_tracking_uri="http://127.0.0.1:9",
                ledger_dsn="postgresql://127.0.0.1:9/ledger",
                poll_seconds=3600,
                bundle_dir=tmp_path / "bundles",
                prediction_log=False,
            )
            app = create_app(defaults.model_copy(update=settings))
            return stack.enter_context(TestClient(app, raise_server_exceptions=False))

        yield start


def refused() -> float:
    return REGISTRY.get_sample_value("house_requests_refused_total", {"reason": "unauthorized"}) or 0


def test_reload_polls_at_once_and_returns_the_outcome(
    start: Start, registry: Registry, models: tuple[Model, Model]
) -> None:
    client = start(admin_key=ADMIN)

    def reload() -> dict[str, object]:
        answer = client.post("/admin/reload", headers=bearer(ADMIN))
        assert answer.status_code == 200
        body: dict[str, object] = answer.json()
        return body

    assert reload() == {
        "outcome": "absent",
        "model_version": None,
        "problem": "no version of house-price has the alias champion: run the pipeline",
    }
    registry.add(models[0])
    assert reload() == {"outcome": "loaded", "model_version": "1", "problem": None}
    assert client.post("/predict", json=EXAMPLE).json()["model_version"] == "1"
    assert reload()["outcome"] == "current"
    registry.add(models[1], manifest_sha256="0" * 64)
    result = reload()
    assert (result["outcome"], result["model_version"]) == ("refused", "1")
    assert "version 2 is refused" in str(result["problem"])
    registry.versions["2"].tags["manifest_sha256"] = models[1].sha256
    assert reload() == {"outcome": "loaded", "model_version": "2", "problem": None}, "a refused version is tried again"
    registry.broken = RegistryError("MLflow did not answer")
    assert reload()["outcome"] == "unreachable"


@pytest.mark.parametrize(
    "headers",
    [{}, bearer(""), bearer("the-admin-ke"), bearer("first-key"), {"Authorization": ADMIN}, {"X-API-Key": ADMIN}],
)
def test_reload_requires_the_admin_key(start: Start, registry: Registry, headers: dict[str, str]) -> None:
    client = start(admin_key=ADMIN, api_keys=KEYS, require_api_key=True)
    before = refused()
    answer = client.post("/admin/reload", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert "ADMIN_KEY" in answer.json()["detail"]
    assert refused() == before + 1


@pytest.mark.parametrize("headers", [{}, bearer(""), bearer("x")])
def test_admin_routes_are_closed_without_an_admin_key_and_the_answer_says_what_to_set(
    start: Start, headers: dict[str, str]
) -> None:
    answer = start().post("/admin/reload", headers=headers)
    assert answer.status_code == 403
    assert "puts ADMIN_KEY into the Secret `fastapi`" in answer.json()["detail"]


def test_sales_require_a_key(start: Start, registry: Registry, models: tuple[Model, Model]) -> None:
    registry.add(models[0])
    client = start(admin_key=ADMIN, api_keys=KEYS, require_api_key=True)
    client.post("/admin/reload", headers=bearer(ADMIN))
    assert client.get("/comparables", headers=bearer("first-key")).status_code == 200
    for headers in ({}, bearer("first-ke"), bearer(ADMIN)):
        assert client.get("/comparables", headers=headers).status_code == 401
    assert start().get("/comparables").status_code != 401


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_prices_require_one_of_the_keys(
    start: Start, registry: Registry, models: tuple[Model, Model], path: str
) -> None:
    registry.add(models[0])
    client = start(admin_key=ADMIN, api_keys=KEYS, require_api_key=True)
    client.post("/admin/reload", headers=bearer(ADMIN))
    for key in ("first-key", "second-key"):
        assert client.post(path, json=EXAMPLE, headers=bearer(key)).status_code == 200
    for headers in (
        {},
        bearer(""),
        bearer("first-ke"),
        bearer(ADMIN),
        bearer(KEYS),
        bearer("schlüssel".encode().hex()),
    ):
        before = refused()
        answer = client.post(path, content=b"not even JSON", headers=headers | {"X-Request-ID": "mine"})
        assert answer.status_code == 401
        assert "API_KEYS" in answer.json()["detail"]
        assert answer.headers["X-Request-ID"] == "mine"
        assert refused() == before + 1


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/schema", "/version", "/docs", "/openapi.json"])
def test_get_requests_need_no_key(start: Start, path: str) -> None:
    assert start(api_keys=KEYS, require_api_key=True).get(path).status_code == 200


def test_client_beyond_its_rate_limit_gets_429_on_every_path(
    start: Start, registry: Registry, models: tuple[Model, Model]
) -> None:
    registry.add(models[0])
    client = start(admin_key=ADMIN, api_keys=KEYS, require_api_key=True, client_requests_per_second=0.001)
    client.post("/admin/reload", headers=bearer(ADMIN))
    assert client.post("/predict", json=[EXAMPLE], headers=bearer("first-key")).status_code == 200
    for path, body in (("/predict", EXAMPLE), ("/predict", [EXAMPLE]), ("/explain", EXAMPLE)):  # fast path and routes
        answer = client.post(path, json=body, headers=bearer("second-key") | {"X-Request-ID": "mine"})
        assert answer.status_code == 429, "all API_KEYS are one client"
        assert 900 < int(answer.headers["Retry-After"]) <= 1000
        assert answer.json()["detail"].startswith("the client API_KEYS sent more than 0.001 requests per second")
        assert answer.headers["X-Request-ID"] == "mine"
    assert client.post("/admin/reload", headers=bearer(ADMIN)).status_code == 200
    assert client.get("/version").status_code == 200


def test_keys_are_off_by_default(start: Start, registry: Registry, models: tuple[Model, Model]) -> None:
    registry.add(models[0])
    client = start(api_keys=KEYS, admin_key=ADMIN)
    client.post("/admin/reload", headers=bearer(ADMIN))
    assert client.post("/predict", json=EXAMPLE).status_code == 200


@pytest.mark.parametrize("keys", ["", " , "])
def test_requiring_keys_without_any_key_fails_at_startup(start: Start, keys: str) -> None:
    with pytest.raises(SettingsError, match=r"fastapi\.config\.requireApiKey"):
        start(api_keys=keys, require_api_key=True)


def test_openapi_has_the_key_of_each_route(start: Start) -> None:
    def required(client: TestClient) -> dict[str, list[str]]:
        paths = client.get("/openapi.json").json()["paths"]
        return {
            path: [name for scheme in operations["post"].get("security", []) for name in scheme]
            for path, operations in paths.items()
            if "post" in operations
        }

    assert required(start())["/admin/reload"] == ["AdminKey"]
    assert required(start())["/predict"] == []
    with_keys = start(api_keys=KEYS, require_api_key=True)
    assert {"/predict": ["ApiKey"], "/explain": ["ApiKey"], "/admin/reload": ["AdminKey"]}.items() <= required(
        with_keys
    ).items()
    assert with_keys.get("/openapi.json").json()["paths"]["/comparables"]["get"]["security"] == [{"ApiKey": []}]
    assert {"401", "429"} <= with_keys.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"].keys()


def test_settings_do_not_show_keys(start: Start) -> None:
    shown = repr(PredictorSettings.model_construct(api_keys="first-key", admin_key=ADMIN))
    assert "first-key" not in shown
    assert ADMIN not in shown


def test_cors_is_off(start: Start) -> None:
    client = start()
    headers = {"Origin": "https://elsewhere.example", "Access-Control-Request-Method": "POST"}
    for answer in (client.options("/predict", headers=headers), client.get("/version", headers=headers)):
        assert [name for name in answer.headers if name.lower().startswith("access-control")] == []
