"""Disturbs the predictor and the services it depends on while clients request prices. No request may fail."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from ci.common.console import say, wait_for
from ci.common.kube import PLATFORM, forward, get, kube, trouble
from ci.deploy import commands, platform, runs, workloads
from core.model.bundle import MANIFEST
from core.stores.registry import RegistryClient
from tests.kit.clients import Clients
from tests.kit.damaged_bundles import Damaged
from tests.kit.platform_data import ledger, mlflow_login, trusted
from tests.kit.promotions import Registrar, confirmed

from .outages import away

pytestmark = pytest.mark.e2e

REQUESTS = 5_000  # at least, during each change
STORES = ("deployment/mlflow", "statefulset/minio", "statefulset/postgres")
SETTINGS = ("fastapi.config.pollSeconds=1",)


@pytest.fixture(scope="module", autouse=True)
def champion() -> str:
    """The version that a freshly installed platform serves."""
    platform.remove()
    platform.install("kind", [*SETTINGS])
    workloads.wait_ready()
    with runs.airflow() as client:
        version = str(runs.run_once(client).task("promote").result["version"])
    rolled_out()
    return version


def pods() -> dict[str, dict[str, Any]]:
    """Pods of the predictor that are not being deleted."""
    items = get("-n", PLATFORM, "pods", "-l", "app.kubernetes.io/name=fastapi")["items"]
    return {pod["metadata"]["name"]: pod for pod in items if "deletionTimestamp" not in pod["metadata"]}


def restarts(pod: dict[str, Any]) -> int:
    return sum(container["restartCount"] for container in pod["status"].get("containerStatuses", []))


def rolled_out() -> None:
    kube("-n", PLATFORM, "rollout", "status", "deployment/fastapi", "--timeout=180s", timeout=200)


def ask(pod: str, path: str = "/model") -> httpx.Response:
    """The answer of one pod."""
    with forward(PLATFORM, f"pod/{pod}", 8000) as url:
        return httpx.get(url + path, timeout=10)


@contextmanager
def load() -> Iterator[Clients]:
    """Clients that send requests during the block, and at least `REQUESTS` in total. None may fail."""
    with Clients(threads=8, pause=0.01) as clients:
        yield clients
        wait_for(f"{REQUESTS} answers", lambda: sum(clients.answered.values()) >= REQUESTS, 300)
    say(f"clients: {clients}")
    assert clients.failures == []
    assert len(clients.prices) == 1, clients.prices


@pytest.mark.parametrize("names", [*((store,) for store in STORES), STORES], ids=" ".join)
def test_prices_go_on_while_stores_are_away(champion: str, names: tuple[str, ...]) -> None:
    before = pods()
    with load(), away(*names):
        if names != ("statefulset/minio",):  # without these, the alias cannot be read
            for name in before:
                wait_for(f"the stale state of {name}", lambda name=name: ask(name).json()["stale"], 60, every=2)
        if "statefulset/postgres" in names:
            assert ask(next(iter(before)), "/history").status_code == 503
        time.sleep(10)
    assert {name: restarts(pod) for name, pod in pods().items()} == dict.fromkeys(before, 0)
    for name in before:
        wait_for(f"the confirmed model of {name}", lambda name=name: not ask(name).json()["stale"], 60, every=2)


def test_new_pod_serves_while_all_stores_are_away(champion: str) -> None:
    with load(), away(*STORES):
        old = set(pods())
        for name in old:  # one at a time, until all pods are younger than the outage
            kube("-n", PLATFORM, "delete", "pod", name)
            wait_for("two new pods", lambda: len(pods()) == 2, 30)
            rolled_out()
        new = pods()
        assert not old & set(new)
        for name, pod in new.items():
            model = ask(name).json()
            assert (model["version"], model["stale"]) == (champion, True), model
            assert restarts(pod) == 0
            say(f"{name} serves version {model['version']}: {model['problem'][:120]}")


def test_new_pod_without_any_model_waits_and_is_not_restarted(champion: str) -> None:
    platform.install("kind", [*SETTINGS, "fastapi.cache.persistence.enabled=false", "fastapi.config.peers="])
    try:
        rolled_out()
        with load(), away(*STORES):
            before = set(pods())
            kube("-n", PLATFORM, "scale", "deployment/fastapi", "--replicas=3")
            wait_for("a third pod", lambda: len(pods()) == 3, 30)
            [new] = set(pods()) - before
            wait_for("its start", lambda: pods()[new]["status"].get("containerStatuses", [{}])[0].get("started"), 60)
            deadline = time.monotonic() + 75  # longer than three liveness probes
            while time.monotonic() < deadline:
                assert ask(new, "/health/live").status_code == 200
                assert ask(new, "/health/ready").status_code == 503
                assert restarts(pods()[new]) == 0
                time.sleep(5)
            say(f"{new} is alive and answers: {ask(new, '/health/ready').json()['detail']}")
        wait_for(f"the readiness of {new}", lambda: not trouble(pods()[new]), 120, every=2)
        assert restarts(pods()[new]) == 0
    finally:
        platform.install("kind", [*SETTINGS])
        rolled_out()


def test_rolling_update_fails_no_request(champion: str) -> None:
    old = set(pods())
    with load():
        kube("-n", PLATFORM, "rollout", "restart", "deployment/fastapi")
        rolled_out()
    wait_for("other pods", lambda: not old & set(pods()), 60)


def test_scale_down_fails_no_request(champion: str) -> None:
    kube("-n", PLATFORM, "scale", "deployment/fastapi", "--replicas=4")
    rolled_out()
    try:
        with load():
            time.sleep(3)
            kube("-n", PLATFORM, "scale", "deployment/fastapi", "--replicas=1")
            wait_for("one pod", lambda: len(pods()) == 1, 60)
    finally:
        kube("-n", PLATFORM, "scale", "deployment/fastapi", "--replicas=2")
        rolled_out()


def test_pods_evicted_from_their_node_fail_no_request(champion: str) -> None:
    """Evictions respect the disruption budget, as in `kubectl drain`."""
    with load():
        for name in list(pods()):
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
            path = f"/api/v1/namespaces/{PLATFORM}/pods/{name}/eviction"
            kube("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
            wait_for("two pods", lambda name=name: len(pods()) == 2 and name not in pods(), 60)
            rolled_out()


def test_pods_deleted_with_their_node_fail_no_request(champion: str) -> None:
    """The API server deletes the pods of a deleted node at once, without a grace period."""
    with load():
        for name in list(pods()):
            time.sleep(2)
            kube("-n", PLATFORM, "delete", "pod", name, "--grace-period=0", "--force", "--wait=false")
            wait_for("two pods", lambda name=name: len(pods()) == 2 and name not in pods(), 60)
            rolled_out()


def test_champion_deleted_in_mlflow_is_restored_by_the_next_run(champion: str) -> None:
    """Prices go on from the model of each pod. Afterwards a predictor without any model becomes Ready, too."""
    with Clients(threads=4, pause=0.02) as clients:
        with forward(PLATFORM, "service/mlflow", 5000) as mlflow:
            path = f"{mlflow}/api/2.0/mlflow/registered-models/delete"
            name = {"name": "house-price"}
            httpx.request("DELETE", path, json=name, auth=mlflow_login("admin"), timeout=30).raise_for_status()
            registry = RegistryClient(mlflow, mlflow_login("viewer"), timeout=20)
            assert registry.version_by_alias("house-price", "champion") is None
        with runs.airflow() as client:
            ended = runs.run_once(client)
        assert ended.state == "success"
        with forward(PLATFORM, "service/mlflow", 5000) as mlflow:
            registry = RegistryClient(mlflow, mlflow_login("viewer"), timeout=20)
            restored = registry.version_by_alias("house-price", "champion")
        assert restored is not None
        served_everywhere(restored.version)
    assert clients.failures == []
    say(f"version {champion} was deleted; the next run: {ended.task('decide').summary}; clients: {clients}")
    move = "select kind, reason from ledger.champions order by id offset 1 limit 1"
    assert ledger(move) == [["rollback", f"MLflow had lost the alias champion of version {champion}"]]
    platform.install("kind", [*SETTINGS, "fastapi.cache.persistence.enabled=false", "fastapi.config.peers="])
    try:
        rolled_out()
    finally:
        platform.install("kind", [*SETTINGS])
        rolled_out()


@pytest.fixture
def trust() -> Iterator[Callable[[str, str], None]]:
    with trusted() as trust:
        yield trust


def test_promotion_and_rollback_fail_no_request(trust: Callable[[str, str], None], tmp_path: Path) -> None:
    with forward(PLATFORM, "service/mlflow", 5000) as mlflow:
        registrar = Registrar(mlflow, "house-price", "champion", trust, mlflow_login())
        copy = tmp_path / "copy"
        champion = registrar.champion(copy)
        manifest = hashlib.sha256((copy / MANIFEST).read_bytes()).hexdigest()
        version = registrar.register(Damaged("a copy of the champion", copy, manifest))
    with load() as clients:
        time.sleep(2)
        with forward(PLATFORM, "service/mlflow", 5000) as mlflow:
            Registrar(mlflow, "house-price", "champion", login=mlflow_login()).promote(version)
        served_everywhere(version)
    assert set(clients.answered) == {champion, version}
    with load() as clients:
        assert commands.run(["rollback", "--to", champion, "--reason", "test of a rollback"]) == 0
        served_everywhere(champion)
    assert set(clients.answered) == {champion, version}


def served_everywhere(version: str) -> None:
    """Wait until each pod serves the version and the registry confirms it."""
    for name in pods():
        with forward(PLATFORM, f"pod/{name}", 8000) as url:
            wait_for(f"version {version} in {name}", partial(confirmed, url, version), 60, every=0.5)
