"""A pod that starts with an empty disk while MLflow is away loads the model of another pod."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

import predictor.assembly
from core.errors import RegistryError
from predictor.assembly import create_app
from predictor.serving.follower import AliasFollower
from predictor.serving.loader import BundleLoader
from predictor.serving.peers import BUNDLE_FILES, PeerError, Peers
from predictor.settings import PredictorSettings
from tests.kit.small_models import Model

from .conftest import NAME, SETTINGS, Registry, trusted, until

KEY = "the-admin-key"
URL = "http://fastapi-pods.mlops.svc:8000"


@pytest.fixture
def other(
    registry: Registry, models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """A pod that serves version 1."""
    monkeypatch.setattr(predictor.assembly, "RegistryClient", lambda *_, **__: registry)
    monkeypatch.setattr(predictor.assembly, "run_loading_test", lambda *_, **__: None)
    registry.add(models[0])
    settings = SETTINGS.model_copy(update={"bundle_dir": tmp_path / "other", "admin_key": KEY})
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        until(lambda: client.get("/health/ready").status_code == 200)
        yield client


def peers(
    answer: Callable[[httpx.Request], httpx.Response],
    monkeypatch: pytest.MonkeyPatch,
    key: str = KEY,
    most: int | None = None,
) -> Peers:
    """Two pods. The first one does not answer."""
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 8000)) for host in ("10.0.0.1", "10.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)

    def reach(request: httpx.Request) -> httpx.Response:
        if request.url.host == "10.0.0.1":
            raise httpx.ConnectError("refused", request=request)
        return answer(request)

    return Peers(URL, key, most, httpx.MockTransport(reach))


def through(client: TestClient) -> Callable[[httpx.Request], httpx.Response]:
    """The answers of a pod."""

    def answer(request: httpx.Request) -> httpx.Response:
        response = client.get(request.url.path, headers=request.headers)
        return httpx.Response(response.status_code, content=response.content)

    return answer


def starting(folder: Path, others: Peers | None) -> AliasFollower:
    """A new pod with an empty disk, while MLflow is away."""
    away: Any = Registry(broken=RegistryError("MLflow did not answer"))
    loader = BundleLoader(away, folder, trusted, lambda _: None, peers=others)
    return AliasFollower(away, NAME, "champion", loader, 0.01)


def serving(follower: AliasFollower) -> str | None:
    return follower.state.model.version.version if follower.state.model else None


def test_new_pod_serves_the_model_of_another_pod(
    other: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = starting(tmp_path / "new", peers(through(other), monkeypatch))
    follower.resume()
    assert serving(follower) is None
    assert follower.refresh() == "unreachable"
    assert serving(follower) == "1"
    assert follower.state.stale, "MLflow has not confirmed it"
    again = starting(tmp_path / "new", None)
    again.resume()
    assert serving(again) == "1", "the model is on disk now"


def test_mlflow_decides_again_once_it_is_back(
    other: TestClient, registry: Registry, models: tuple[Model, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = starting(tmp_path / "new", peers(through(other), monkeypatch))
    follower.refresh()
    follower._registry = follower._loader._registry = registry  # type: ignore[assignment]
    assert follower.refresh() == "current"
    assert not follower.state.stale
    registry.add(models[1])
    follower.refresh()
    assert serving(follower) == "2"


def test_pod_with_a_model_does_not_ask_others(
    other: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return through(other)(request)

    follower = starting(tmp_path / "new", peers(answer, monkeypatch))
    follower.refresh()
    assert paths
    assert set(paths) == {"/admin/bundle", *(f"/admin/bundle/{name}" for name in BUNDLE_FILES)}
    paths.clear()
    follower.refresh()
    assert paths == []


def test_without_peers_it_waits_for_mlflow(tmp_path: Path) -> None:
    follower = starting(tmp_path / "new", None)
    follower.refresh()
    assert serving(follower) is None


def test_name_that_does_not_resolve_is_not_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror("unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    follower = starting(tmp_path / "new", Peers(URL, KEY))
    assert follower.refresh() == "unreachable"
    assert serving(follower) is None


@pytest.mark.parametrize("damage", ["changed", "missing", "cut off"])
def test_bundle_that_differs_from_the_registered_one_does_not_serve(
    other: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("model.txt"):
            if damage == "missing":
                return httpx.Response(404)
            content = through(other)(request).content
            return httpx.Response(200, content=b"x" + content[1:] if damage == "changed" else content[:100])
        return through(other)(request)

    follower = starting(tmp_path / "new", peers(answer, monkeypatch))
    follower.refresh()
    assert serving(follower) is None
    assert list((tmp_path / "new").iterdir()) == [], "no file is left"


def test_other_files_are_not_fetched(other: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert ".." not in str(request.url)
        if request.url.path == "/admin/bundle":
            listing = through(other)(request).json()
            return httpx.Response(200, content=json.dumps({**listing, "files": [*listing["files"], "../../evil"]}))
        return through(other)(request)

    follower = starting(tmp_path / "new", peers(answer, monkeypatch))
    follower.refresh()
    assert serving(follower) == "1"


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": {"evil": 1}, "files": []}', '{"version": 1, "files": 2}']
)
def test_invalid_answer_of_a_pod_is_ignored(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    follower = starting(tmp_path / "new", peers(lambda _: httpx.Response(200, content=text), monkeypatch))
    assert follower.refresh() == "unreachable"
    assert serving(follower) is None


def test_model_that_is_too_large_is_refused(other: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = peers(through(other), monkeypatch, most=1000)
    [(url, _, names)] = others.served()
    with pytest.raises(PeerError, match="too large"):
        others.fetch(url, names, tmp_path)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer another"}])
@pytest.mark.parametrize("path", ["/admin/bundle", "/admin/bundle/model.txt"])
def test_model_is_sent_for_the_admin_key_only(other: TestClient, path: str, headers: dict[str, str]) -> None:
    assert other.get(path, headers=headers).status_code == 401
    assert other.get(path, headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


@pytest.mark.parametrize("name", ["served.json", "..%2Fserved.json", "%2e%2e", "other.txt"])
def test_other_files_of_the_folder_are_not_sent(other: TestClient, name: str) -> None:
    assert other.get(f"/admin/bundle/{name}", headers={"Authorization": f"Bearer {KEY}"}).status_code == 404


def test_pod_without_a_model_on_disk_answers_503(other: TestClient, tmp_path: Path) -> None:
    for bundle in (tmp_path / "other").glob("1-*"):
        shutil.rmtree(bundle)
    answer = other.get("/admin/bundle", headers={"Authorization": f"Bearer {KEY}"})
    assert (answer.status_code, answer.json()["detail"]) == (
        503,
        "this pod serves no model, or its model is no longer on disk",
    )


def test_other_pods_are_not_asked_without_an_admin_key(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(predictor.assembly, "Peers", lambda *arguments: calls.append(arguments))
    for key, url in (("", URL), (KEY, ""), (KEY, URL)):
        create_app(PredictorSettings.model_validate({**SETTINGS.model_dump(), "admin_key": key, "peers": url}))
    assert [arguments[:2] for arguments in calls] == [(URL, KEY)]
