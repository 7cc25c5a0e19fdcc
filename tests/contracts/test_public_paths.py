"""The Ingress of the predictor publishes exactly the routes that clients need."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from starlette.routing import BaseRoute

from ci.common.console import Failure
from predictor.assembly import create_app
from predictor.settings import PredictorSettings
from tests.kit.rendering import KUBE_API, alone, find, objects, parse

PRIVATE = {
    "/metrics": "figures of the service, for Prometheus, which scrapes each pod",
    "/admin/reload": "for operators, with the admin key",
    "/admin/bundle": "for other pods, with the admin key",
    "/admin/bundle/{name}": "for other pods, with the admin key",
    "/docs": "documentation; an operator may publish it",
    "/docs/{name}": "as /docs",
    "/openapi.json": "as /docs",
}


def routes() -> set[str]:
    """The paths of every route of the predictor."""
    settings = PredictorSettings(
        model_name="m",
        model_alias="champion",
        mlflow_tracking_uri="http://127.0.0.1:9",
        ledger_dsn="postgresql://127.0.0.1:9/ledger",
        prediction_log=False,
    )
    return _paths(create_app(settings).routes)


def _paths(routes: Sequence[BaseRoute]) -> set[str]:
    """FastAPI keeps an included router as one entry, with the router in an attribute."""
    paths: set[str] = set()
    for route in routes:
        router = getattr(route, "original_router", None)
        paths |= _paths(router.routes) if router else {str(getattr(route, "path", route))}
    return paths


@pytest.mark.parametrize("env", ["vm", "prod"])
def test_ingress_serves_every_route_but_the_private_ones(env: str) -> None:
    ingress = find(objects(env), "Ingress", "fastapi")
    paths = [path for rule in ingress["spec"]["rules"] for path in rule["http"]["paths"]]
    assert {path["pathType"] for path in paths} == {"Exact"}, "a prefix would publish the paths below it"
    public = {path["path"] for path in paths}
    assert public == routes() - PRIVATE.keys(), "list a new route in fastapi.ingress.paths or in PRIVATE"


@pytest.mark.parametrize("path", ["/", "/metrics", "/metrics/", "/admin/reload", "/admin", "metrics", ""])
def test_private_path_in_the_values_is_refused(path: str) -> None:
    with pytest.raises(Failure, match=r"ingress\.paths\.1: "):
        alone("fastapi", *KUBE_API, "--set-json", f"ingress.paths={json.dumps(['/predict', path])}")


def test_documentation_can_be_published() -> None:
    enabled = "ingress.enabled=true,ingress.host=api.house.example,ingress.paths={/predict,/docs,/openapi.json}"
    enabled += ",config.requireApiKey=true"
    [rule] = find(parse(alone("fastapi", *KUBE_API, "--set", enabled)), "Ingress", "fastapi")["spec"]["rules"]
    assert [path["path"] for path in rule["http"]["paths"]] == ["/predict", "/docs", "/openapi.json"]
