"""Programs that are called wrongly say so in one sentence, with what to do, before they do anything."""

from __future__ import annotations

import argparse
import importlib
from typing import Any

import pytest

from ci.argocd import sync
from ci.common import kube
from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.deploy import pages, up, workloads

TAKE_ENV = sorted(
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    for path in (CHECKOUT / "ci").rglob("*.py")
    if 'argument(\n        "--env"' in (text := path.read_text()) or 'argument("--env"' in text
)
WORDS = {"ci.deploy.release": ["write"], "ci.doctor.__main__": ["--no-cluster"]}


@pytest.fixture(autouse=True)
def only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program goes on once its command line was read, but for the doctor, which changes nothing."""
    read = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *words: Any) -> argparse.Namespace:
        options = read(self, *words)
        if self.prog != "python -m ci.doctor":
            pytest.fail(f"{self.prog} would have gone on")
        return options

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse)


def call(module: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [module, *words])
    importlib.import_module(module)._main()


@pytest.mark.parametrize("module", TAKE_ENV)
def test_environment_that_is_none(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Failure, match=r"^unknown environment 'moon'; values/ has kind, prod, vm$"):
        call(module, [*WORDS.get(module, []), "--env", "moon"], monkeypatch)


def test_all_programs_that_take_an_environment_are_found() -> None:
    assert {
        "ci.deploy.up",
        "ci.deploy.platform",
        "ci.deploy.release",
        "ci.images.__main__",
        "ci.argocd.__main__",
    } <= set(TAKE_ENV)


def test_up_does_not_build_for_an_environment_of_published_images() -> None:
    with pytest.raises(Failure, match=r"vm runs images of ghcr\.io/house-platform.*make install ENV=vm"):
        up.up("vm", cluster=True, images=True, extra=[])


@pytest.mark.parametrize(
    "message",
    [
        "The connection to the server localhost:8080 was refused - did you specify the right host or port?",
        "Unable to connect to the server: dial tcp 192.0.2.1:6443: i/o timeout",
        'error: error validating "STDIN": error validating data: Get "http://localhost:8080/openapi/v2": refused',
        'Error: Kubernetes cluster unreachable: Get "http://localhost:8080/version": refused',
    ],
)
def test_cluster_that_does_not_answer(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> Any:
        raise Failure(f"`kubectl get pods` ended with code 1:\nE1128 memcache.go:265] noise\n{message}\n")

    monkeypatch.setattr(kube, "run", run)
    with pytest.raises(Failure) as failed:
        kube.on_cluster("kubectl", "get", "pods")
    sentence, last = str(failed.value).split("\n")
    assert sentence.startswith("no cluster answers: `make cluster` creates one")
    assert last == message


def test_what_a_cluster_answers_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "Error from server: failed calling webhook: dial tcp 10.45.0.7:443: connect: connection refused"

    def run(*_: Any, **__: Any) -> Any:
        raise Failure(answer)

    monkeypatch.setattr(kube, "run", run)
    with pytest.raises(Failure, match=r"^Error from server: failed calling webhook"):
        kube.on_cluster("kubectl", "apply")


@pytest.mark.parametrize(("module", "work"), [(workloads, workloads.status), (pages, pages.show)])
def test_cluster_without_the_platform(module: Any, work: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "get", lambda *_: {"items": []})
    with pytest.raises(Failure, match="nothing is installed in the namespace mlops: `make install`"):
        work()


def test_secret_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube, "kube", lambda *_, **__: "")
    with pytest.raises(Failure, match=r"there is no Secret airflow-login in mlops: install the platform"):
        kube.secret("mlops", "airflow-login")


def test_cluster_without_argocd(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(*_: str) -> Any:
        raise Failure('error: the server doesn\'t have a resource type "applications"')

    monkeypatch.setattr(sync, "get", get)
    with pytest.raises(Failure, match="Argo CD is not installed here: `make gitops`"):
        sync.table()
