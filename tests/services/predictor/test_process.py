"""The service as a process, started as in its image, with a real MLflow server and a real PostgreSQL."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import mlflow
import mlflow.pyfunc
import pytest

from ci.common.console import wait_for
from ci.local.processes import LocalPlatform, free_port
from core.ledger import Ledger
from predictor.pricing.listing import EXAMPLE
from predictor.shutdown import DRAIN_SECONDS
from tests.kit.small_models import Model
from tests.services.ledgers import trust_as_champion

from .conftest import NAME, worker_of

POLL_SECONDS = 1
HEAVY = ("lightgbm", "mlflow", "pandas", "scipy", "sklearn")
MEBIBYTE = 2**20


def test_service_imports_no_heavy_library(models: tuple[Model, Model]) -> None:
    program = (
        "import sys; from pathlib import Path; import predictor.assembly, predictor.serving.loading_test\n"
        "from core.model.bundle import load_bundle; load_bundle(Path(sys.argv[1])).check_golden()\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(models[0].folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_missing_setting_is_named_by_variable_and_chart_value(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "gunicorn", "-c", "python:predictor.gunicorn_conf", "predictor.app:app"]
    settings = {"MODEL_NAME": "m", "MLFLOW_TRACKING_URI": "http://x", "LEDGER_DSN": "postgresql://x"}
    env = {key: value for key, value in os.environ.items() if key != "MODEL_ALIAS"} | settings
    done = subprocess.run(
        [*command, "--bind", f"127.0.0.1:{free_port()}"],
        env=env,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "MODEL_ALIAS (chart: fastapi.config.modelAlias)" in done.stderr


@pytest.fixture(scope="module")
def platform(tracking: LocalPlatform) -> Iterator[LocalPlatform]:
    """The MLflow server that all modules share. A test of this module stops it and starts it again."""
    yield tracking
    tracking.stop("predictor")


@pytest.fixture(scope="module")
def register(platform: LocalPlatform, dsn: str) -> Callable[..., str]:
    """Logs and registers a bundle like the pipeline, with its hash in the ledger, and moves the alias to it.

    Returns the version.
    """
    mlflow.set_tracking_uri(platform.mlflow_url)
    os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] = "false"

    def register(model: Model, damage: Callable[[Path], object] = lambda _: None) -> str:
        # in another folder, because MLflow would copy the lock file of this project
        with contextlib.chdir(platform.folder), mlflow.start_run():
            logged = mlflow.pyfunc.log_model(
                name="model", loader_module="core.pyfunc", data_path=str(model.folder), pip_requirements=[]
            )
        stored = next((platform.folder / "artifacts").rglob(f"{logged.model_id}/artifacts/data/bundle"))
        damage(stored)
        tags = {"manifest_sha256": model.sha256}
        version = str(mlflow.register_model(logged.model_uri, NAME, tags=tags).version)
        trust_as_champion(dsn, version, model.sha256)
        mlflow.MlflowClient().set_registered_model_alias(NAME, "champion", version)
        return version

    return register


@pytest.fixture(scope="module")
def dsn(platform: LocalPlatform) -> str:
    """The ledger of the service, without a schema at first."""
    return platform.database("process")


@pytest.fixture(scope="module")
def url(
    platform: LocalPlatform,
    dsn: str,
    register: Callable[..., str],
    models: tuple[Model, Model],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The service, with a model."""
    folder = tmp_path_factory.mktemp("predictor")
    started = platform.start_predictor(
        poll_seconds=str(POLL_SECONDS),
        ledger_dsn=dsn,
        bundle_dir=str(folder / "bundles"),
        prediction_log_dir=str(folder / "predictions"),
    )
    empty = {name: [] for name in ("batches", "gaps", "champions", "live_errors", "invalid_prices")}
    assert httpx.get(f"{started}/history").json() == empty, "before the first run of the pipeline"
    Ledger(dsn).ensure_schema()
    register(models[0])
    wait_for("a model", lambda: httpx.get(f"{started}/health/ready").status_code == 200, 20)
    return started


def ask(url: str) -> dict[str, Any]:
    answer = httpx.post(f"{url}/predict", json=EXAMPLE, timeout=5)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def answers_with(url: str, version: str) -> bool:
    return bool(ask(url)["model_version"] == version)


def model(url: str) -> dict[str, Any]:
    body: dict[str, Any] = httpx.get(f"{url}/model", timeout=5).json()
    return body


@pytest.mark.services
def test_new_version_answers_after_the_alias_moves(
    url: str, register: Callable[..., str], models: tuple[Model, Model]
) -> None:
    for each in (models[1], models[0]):
        version = register(each)
        wait_for(f"version {version}", partial(answers_with, url, version), POLL_SECONDS + 20, every=0.1)
        rows = each.bundle.golden_listings
        prices = httpx.post(f"{url}/predict", json=rows, timeout=5).json()["prices"]
        assert prices == each.bundle.golden_prices


@pytest.mark.services
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "model.txt").write_bytes((folder / "model.txt").read_bytes()[:500]),
        lambda folder: (folder / "golden.json").write_bytes(b""),
        lambda folder: (folder / "manifest.json").write_text("<html>502 Bad Gateway</html>"),
    ],
    ids=["truncated", "empty", "a web page"],
)
def test_damaged_bundle_in_the_store_is_refused(
    url: str, register: Callable[..., str], models: tuple[Model, Model], damage: Callable[[Path], object]
) -> None:
    before = ask(url) | {"request_id": ""}
    good = model(url)["version"]
    bad = register(models[1], damage)
    wait_for("the refusal", lambda: bad in [r["version"] for r in model(url)["refused"]], 20)
    body = model(url)
    assert body["version"] == good
    assert body["stale"] is True
    assert bad in body["problem"]
    assert ask(url) | {"request_id": ""} == before
    mlflow.MlflowClient().set_registered_model_alias(NAME, "champion", good)
    wait_for("the good version", lambda: not model(url)["stale"], POLL_SECONDS + 20)


@pytest.mark.services
def test_history_comes_from_the_ledger(url: str, dsn: str) -> None:
    ledger = Ledger(dsn)
    ledger.note_call()
    batch = ledger.receive(1, "ab" * 32, 4055, "raw/0001.parquet")
    ledger.set_stored(batch)
    ledger.decide(batch, "skip", "4,055 rows are fewer than 10,000", {})

    def history() -> dict[str, Any]:
        body: dict[str, Any] = httpx.get(f"{url}/history").json()
        return body

    wait_for("a new read of the ledger", lambda: history()["batches"], 20)
    assert history()["gaps"] == [0]
    assert [(row["batch_number"], row["rows"], row["decision"], row["reason"]) for row in history()["batches"]] == [
        (1, 4055, "skip", "4,055 rows are fewer than 10,000")
    ]


@pytest.mark.services
def test_memory_stays_small(url: str, platform: LocalPlatform, record_property: Callable[[str, object], None]) -> None:
    httpx.post(f"{url}/predict", json=[EXAMPLE] * 5000, timeout=30)
    worker = resident(worker_of(platform))
    master = resident(platform.pid("predictor"))
    record_property("worker_mib", worker)
    print(f"predictor: worker {worker} MiB, gunicorn's master {master} MiB")
    assert worker <= 160, f"the worker uses {worker} MiB: look for a new import"


@pytest.mark.services
def test_service_answers_while_mlflow_is_away(url: str, platform: LocalPlatform) -> None:
    version = ask(url)["model_version"]
    port = int(platform.mlflow_url.rpartition(":")[2])
    platform.stop("mlflow")
    try:
        wait_for("stale", lambda: model(url)["stale"], POLL_SECONDS + 20)
        assert ask(url)["model_version"] == version
        assert httpx.get(f"{url}/health/ready").status_code == 200
        os.kill(worker_of(platform), signal.SIGKILL)
        wait_for("an answer of the new worker", lambda: answered(url), 20)
        assert model(url)["version"] == version
    finally:
        platform.start_mlflow(port)
    wait_for("confirmed", lambda: not model(url)["stale"], 10)


@pytest.mark.services
def test_sigterm_drains_and_finishes_the_requests_in_flight(platform: LocalPlatform, url: str) -> None:
    body = json.dumps(EXAMPLE).encode()
    address = urlsplit(url)
    slow = http.client.HTTPConnection(str(address.hostname), address.port, timeout=20)
    slow.putrequest("POST", "/predict")
    slow.putheader("Content-Length", str(len(body)))
    slow.endheaders(body[:10])
    kept = [httpx.Client(base_url=url, timeout=5) for _ in range(3)]
    requests = [("POST", "/predict", EXAMPLE), ("POST", "/predict", [EXAMPLE]), ("GET", "/model", None)]
    for client, (method, path, listing) in zip(kept, requests, strict=True):
        assert "connection" not in client.request(method, path, json=listing).headers
    ending = threading.Thread(target=platform.stop, args=("predictor",))
    ending.start()
    time.sleep(DRAIN_SECONDS / 4)
    assert httpx.get(f"{url}/health/ready", timeout=5).status_code == 503, "not ready during shutdown"
    assert httpx.get(f"{url}/health/live", timeout=5).status_code == 200
    ask(url)
    for client, (method, path, listing) in zip(kept, requests, strict=True):
        answer = client.request(method, path, json=listing)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close"), (
            "an answer during shutdown must close its connection"
        )
    time.sleep(DRAIN_SECONDS)
    with pytest.raises(httpx.TransportError):
        ask(url)
    slow.send(body[10:])
    assert json.loads(slow.getresponse().read())["price"] > 0
    ending.join(timeout=20)
    assert not ending.is_alive()


def answered(url: str) -> bool:
    try:
        return httpx.post(f"{url}/predict", json=EXAMPLE, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def resident(pid: int) -> int:
    """Resident memory in MiB."""
    kibibytes = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert kibibytes
    return int(kibibytes[1]) * 1024 // MEBIBYTE
