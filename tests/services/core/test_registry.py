"""Downloads from MLflow are bounded, even if its listing is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from core.errors import BundleError, RegistryError
from core.stores import registry
from core.stores.registry import RegistryClient

LOGGED = "mlflow-artifacts:/1/models/m-1/artifacts"


def client(sizes: dict[str, int], content: Callable[[str], bytes]) -> RegistryClient:
    """Client of a server that lists files of these sizes (negative: no size) and returns `content` of their names."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/artifacts"):
            files = [{"path": name} | ({"file_size": str(size)} if size >= 0 else {}) for name, size in sizes.items()]
            return httpx.Response(200, json={"files": [*files, {"path": "folder", "is_dir": True}]})
        return httpx.Response(200, content=content(request.url.path.rpartition("/")[2]))

    return RegistryClient("http://mlflow", transport=httpx.MockTransport(answer))


def test_files_are_written_unchanged(tmp_path: Path) -> None:
    client({"a": 1, "b": -1}, str.encode).download_from(LOGGED, tmp_path / "new", max_bytes=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()} == {"a": b"a", "b": b"b"}


def test_bundle_with_too_large_listing_is_not_downloaded(tmp_path: Path) -> None:
    def download(name: str) -> bytes:
        raise AssertionError(f"{name} was downloaded")

    with pytest.raises(BundleError, match=r"30,000,000,001 bytes or more, at most 1,000 .* MAX_BUNDLE_BYTES"):
        client({"a": 1, "b": 30_000_000_000}, download).download_from(LOGGED, tmp_path, max_bytes=1000)


@pytest.mark.parametrize("listed", [-1, 0, 10])
def test_bundle_that_is_larger_than_its_listing_is_refused(listed: int, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="bytes or more, at most 1,000"):
        client({"a": listed, "b": listed}, lambda _: bytes(600)).download_from(LOGGED, tmp_path, max_bytes=1000)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000


def test_bundle_with_too_many_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="the model has 101 files"):
        client({str(at): 1 for at in range(101)}, str.encode).download_from(LOGGED, tmp_path)


def test_download_from_a_slow_server_is_aborted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_DOWNLOAD_SECONDS", -1)
    with pytest.raises(RegistryError, match="took more than"):
        client({"a": 1}, str.encode).download_from(LOGGED, tmp_path)


@pytest.mark.parametrize(
    ("status", "text", "message"),
    [
        (500, "Internal Server Error", r"MLflow answered 500 to .*: Internal Server Error"),
        (200, "<html>a proxy</html>", r"MLflow answered 200 to .*: <html>a proxy"),
        (401, "You are not authenticated", r"refused .* to predictor \(401\): the user needs the password"),
        (403, '{"error_code": "PERMISSION_DENIED"}', r"refused .* to predictor \(403\): the user needs the password"),
    ],
)
def test_answer_that_cannot_be_used_is_named(status: int, text: str, message: str) -> None:
    answers = httpx.MockTransport(lambda _: httpx.Response(status, text=text))
    client = RegistryClient("http://mlflow", ("predictor", "secret"), transport=answers)
    for ask in (client.check_artifacts, lambda: client.version_by_alias("house-price", "champion")):
        with pytest.raises(RegistryError, match=message) as wrong:
            ask()
        assert "secret" not in str(wrong.value)


@pytest.mark.parametrize(("timeout", "connect"), [(60.0, 5.0), (2.0, 2.0)])
def test_client_connects_within_seconds_and_waits_longer_for_an_answer(timeout: float, connect: float) -> None:
    limits: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        limits.append(request.extensions["timeout"])
        return httpx.Response(200, json={"error_code": "RESOURCE_DOES_NOT_EXIST"})

    client = RegistryClient("http://mlflow", timeout=timeout, transport=httpx.MockTransport(answer))
    assert client.version_by_alias("house-price", "champion") is None
    assert [(each["connect"], each["read"]) for each in limits] == [(connect, timeout)]
