"""A missing image has a different message for each cause: firewall, DNS, credentials, rate limit, never published."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import closing
from pathlib import Path

import pytest

from ci.common.image_reference import parse
from ci.doctor import images
from ci.doctor.requirements import Requirements
from ci.doctor.result import Result
from tests.doctor.servers import Answers, answering

DIGEST = f"sha256:{'a' * 64}"
FOUND = Answers(200, headers={"Docker-Content-Digest": DIGEST})


@pytest.fixture(autouse=True)
def _no_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def ask(answers: Answers) -> Result:
    with answering(answers) as (port, _):
        return images.check(f"127.0.0.1:{port}/house/ui:0.1.0@{DIGEST}", set(), 5)


@pytest.mark.parametrize(
    ("text", "name", "tag"),
    [
        ("grafana/grafana:12.1", "docker.io/grafana/grafana", "12.1"),
        ("busybox", "docker.io/library/busybox", "latest"),
        ("localhost/house-platform/ui:0.1.0", "localhost/house-platform/ui", "0.1.0"),
        ("registry.example:5000/a/b/c:1", "registry.example:5000/a/b/c", "1"),
    ],
)
def test_references_are_read_as_containerd_reads_them(text: str, name: str, tag: str) -> None:
    result = parse(f"{text}@{DIGEST}")
    assert (result.name, result.tag, result.digest) == (name, tag, DIGEST)
    assert parse(text).digest == ""


def test_image_on_the_node_is_asked_for_nowhere() -> None:
    present = {f"ghcr.invalid/house/ui@{DIGEST}"}
    assert images.check(f"ghcr.invalid/house/ui:0.1.0@{DIGEST}", present).level == "ok"


def test_image_that_is_imported_by_hand_and_is_not() -> None:
    result = images.check(f"localhost/house-platform/ui:0.1.0@{DIGEST}", set())
    assert (result.level, result.check) == ("fail", "image ui")
    assert result.what.startswith("localhost/house-platform/ui:0.1.0 is not on the node, and no registry has it")
    assert "python -m ci.images load" in result.fix


def test_image_on_the_node_with_another_digest() -> None:
    result = images.check(f"localhost/house-platform/ui:0.1.0@{DIGEST}", {"localhost/house-platform/ui:0.1.0"})
    assert (result.level, f"with another digest than {DIGEST}" in result.what) == ("fail", True)


def test_image_in_its_registry() -> None:
    assert ask(FOUND).level == "ok"


def test_firewall_that_drops() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        result = images.check(f"127.0.0.1:{server.getsockname()[1]}/house/ui:0.1.0@{DIGEST}", set(), 0.05)
    assert (result.level, "cannot be reached: no answer" in result.what) == ("fail", True)
    assert "a firewall drops the packets" in result.what
    assert "use the bundle" in result.fix


def test_name_that_dns_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    result = images.check(f"registry.invalid/house/ui:0.1.0@{DIGEST}", set(), 5)
    assert (result.level, "DNS does not know registry.invalid" in result.what) == ("fail", True)


def test_registry_that_asks_for_credentials() -> None:
    result = ask(Answers(401))
    assert (result.level, "asks for credentials (401)" in result.what) == ("fail", True)
    assert "/etc/rancher/k3s/registries.yaml" in result.fix


def test_anonymous_token_is_fetched_as_the_registry_says() -> None:
    bearer = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:PORT/token",service="r",scope="repository:x:pull"'}
    token = Answers(200, json.dumps({"token": "t0k"}).encode())
    assert ask(Answers(401, headers=bearer, by_token={"Bearer t0k": FOUND}, by_path={"/token": token})).level == "ok"
    private = ask(Answers(401, headers=bearer, by_path={"/token": token}))
    assert "asks for credentials (401)" in private.what


def test_a_login_is_used(tmp_path: Path) -> None:
    login = base64.b64encode(b"me:secret").decode()
    with answering(Answers(401, by_token={f"Basic {login}": FOUND})) as (port, _):
        (tmp_path / "config.json").write_text(json.dumps({"auths": {f"127.0.0.1:{port}": {"auth": login}}}))
        assert images.check(f"127.0.0.1:{port}/house/ui:0.1.0@{DIGEST}", set(), 5).level == "ok"


def test_rate_limit() -> None:
    result = ask(Answers(429, headers={"Retry-After": "3600"}))
    assert (result.level, "limits the rate of pulls (429, again in 3600 s)" in result.what) == ("fail", True)
    assert "global.imageRegistry" in result.fix


def test_image_that_was_never_published() -> None:
    result = ask(Answers(404))
    assert (result.level, "does not have it (404)" in result.what) == ("fail", True)
    assert result.fix.startswith("publish it: make push REGISTRY=127.0.0.1:")


def test_registry_that_is_ill() -> None:
    assert "answers 503" in ask(Answers(503)).what


def test_login_page_instead_of_a_registry() -> None:
    assert "answers, but not as a registry: a proxy or a login page" in ask(Answers(200, b"<html>")).what


def test_registry_with_another_digest() -> None:
    other = f"sha256:{'b' * 64}"
    assert f"has {other} under that name" in ask(Answers(200, headers={"Docker-Content-Digest": other})).what


def test_registry_that_cannot_be_reached_is_asked_once() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    names = [f"127.0.0.1:{port}/house/{name}:1@{DIGEST}" for name in ("a", "b", "c")]
    result = images.every(Requirements("vm", images=names), set(), 5)
    assert [one.level for one in result] == ["fail"] * 3
    assert [one.what for one in result[1:]] == ["likewise"] * 2


def test_all_are_present_only_if_each_is_there_by_digest() -> None:
    needs = Requirements("vm", images=[f"a.example/b/{name}:1@{DIGEST}" for name in ("ui", "mlflow")])
    both = {f"a.example/b/{name}@{DIGEST}" for name in ("ui", "mlflow")}
    assert images.all_present(needs, both)
    assert not images.all_present(needs, {f"a.example/b/ui@{DIGEST}", "a.example/b/mlflow:1"})
    assert not images.all_present(Requirements("vm"), both)


def test_environment_that_names_no_images() -> None:
    [result] = images.every(Requirements("vm", images_missing="values/images-vm.yaml"), set())
    assert (result.level, "values/images-vm.yaml is missing" in result.what) == ("fail", True)
    assert result.fix.startswith("make images ENV=vm")
