"""The smoke test on a real MLflow and through a proxy that breaks something: a step is a line, a fault a sentence."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import mlflow
import pytest

from ci.local import LocalPlatform, free_port
from core.bundle import load_bundle
from core.errors import RegistryError
from pipeline import smoke
from pipeline.context import Context
from tests.bodies import read_body
from tests.services.pipeline.conftest import SETTINGS

STEPS = ["versions", "train", "log", "register", "alias", "download", "load", "clean up"]


def test_model_is_one_tree_that_knows_sizes(tmp_path: Path) -> None:
    smoke.grow(SETTINGS, tmp_path)
    bundle = load_bundle(tmp_path)
    assert bundle.booster.rounds == 1
    prices = bundle.predict(smoke.listings())
    assert prices[0] < prices[-1]


class Proxy(BaseHTTPRequestHandler):
    """Passes everything on to MLflow, but for what the test changes."""

    target = ""
    host = ""  # header that MLflow sees
    refuse: tuple[str, str] | None = None  # method and part of a path that are answered with 500
    change: tuple[str, bytes] | None = None  # end of a path, and what a GET of it is answered with

    def _pass_on(self) -> None:
        body = read_body(self)
        if self.refuse and self.command == self.refuse[0] and self.refuse[1] in self.path:
            self._answer(500, b'{"error_code": "INTERNAL_ERROR", "message": ".*the disk is full"}')
            return
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding")
        }
        headers["Host"] = self.host or httpx.URL(self.target).netloc.decode()
        given = httpx.request(self.command, self.target + self.path, headers=headers, content=body, timeout=60)
        changed = self.change if self.command == "GET" and self.change and self.path.endswith(self.change[0]) else None
        self._answer(given.status_code, changed[1] if changed else given.content)

    def _answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Nothing."""

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on


@pytest.fixture
def proxied(platform: LocalPlatform) -> Iterator[Callable[..., str]]:
    """Starts a proxy that changes something; gives its URL."""
    servers = []

    def start(**faults: Any) -> str:
        handler = type("Faulty", (Proxy,), {"target": platform.mlflow_url, **faults})
        servers.append(server := ThreadingHTTPServer(("127.0.0.1", 0), handler))
        Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def run(platform: LocalPlatform, mlflow_url: str = "", *words: str) -> subprocess.CompletedProcess[str]:
    """As a pod does; without a ledger, which is none of its business."""
    settings = {"ledger_dsn": "postgresql://127.0.0.1:9/none"} | (
        {"mlflow_tracking_uri": mlflow_url} if mlflow_url else {}
    )
    environment = {**os.environ, **platform.stage_environment(**settings), "RESULT_FILE": os.devnull}
    command = [sys.executable, "-m", "pipeline", "smoke", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)


def context(mlflow_url: str) -> Context:
    """For a smoke test within this process, which is quicker."""
    return Context(SETTINGS.model_copy(update={"mlflow_tracking_uri": mlflow_url}))


def steps(told: str) -> list[str]:
    """Steps that were done, as a log tells them."""
    return [found[1] for line in told.splitlines() if (found := re.match(r"(clean up|[a-z]+) +\S", line))]


def left(platform: LocalPlatform) -> dict[str, Any]:
    """All that MLflow knows and keeps."""
    mlflow.set_tracking_uri(platform.mlflow_url)
    client = mlflow.MlflowClient()
    experiments = [found.experiment_id for found in client.search_experiments()]
    return {
        "models": [model.name for model in client.search_registered_models()],
        "runs": [run.info.run_id for run in client.search_runs(experiments)],
        "logged": [model.model_id for model in client.search_logged_models(experiments)],
        "files": [str(path) for path in (platform.folder / "artifacts").rglob("*") if path.is_file()],
    }


@pytest.fixture
def before(platform: LocalPlatform) -> dict[str, Any]:
    """What other tests left on the same server."""
    return left(platform)


@pytest.mark.services
@pytest.mark.timeout(300)
class TestOnMlflow:
    """Against a real server."""

    def test_every_step_is_a_line_and_nothing_stays(self, platform: LocalPlatform, before: dict[str, Any]) -> None:
        done = run(platform)
        assert done.returncode == 0, done.stderr
        assert steps(done.stderr) == STEPS
        assert len(done.stderr.splitlines()) == len(STEPS), f"MLflow talks, too: {done.stderr}"
        assert f"MLflow at {platform.mlflow_url} keeps a model and hands it out" in done.stdout
        assert left(platform) == before
        told = json.loads(run(platform, "", "--json").stdout)
        assert told["mlflow"] == mlflow.__version__

    @pytest.mark.parametrize(
        ("faults", "step", "words"),
        [
            ({"change": ("/version", b"2.22.0")}, 0, "MLflow's server is 2.22.0, this client .*: deploy images of one"),
            ({"host": "mlflow.elsewhere:5000"}, 2, ".*Invalid Host header.*; add the host .* mlflow.allowedHosts"),
            ({"refuse": ("PUT", "mlflow-artifacts")}, 2, ".*too many 500 .*; see MLflow's log .* MinIO takes obj"),
            ({"refuse": ("POST", "model-versions/create")}, 3, ".*too many 500 error responses.*; see MLflow's log"),
            ({"refuse": ("POST", "registered-models/alias")}, 4, ".*too many 500 .*; let no other smoke test run"),
            ({"refuse": ("GET", "model-versions/get-download-uri")}, 5, "MLflow answered 500.*; see MLflow's log"),
            ({"change": ("/model.txt", b"tree")}, 6, "model.txt in .* is damaged: .*; see MLflow's log"),
            ({"refuse": ("DELETE", "registered-models")}, 7, ".*too many 500 error responses.*; see MLflow's log"),
        ],
        ids=["version", "host", "artifacts", "register", "alias", "download", "damaged", "clean up"],
    )  # fmt: skip
    def test_fault_is_a_sentence_that_says_what_to_do(
        self,
        platform: LocalPlatform,
        before: dict[str, Any],
        proxied: Callable[..., str],
        capsys: pytest.CaptureFixture[str],
        faults: dict[str, Any],
        step: int,
        words: str,
    ) -> None:
        with pytest.raises(RegistryError, match=f"^step '{STEPS[step]}': {words}"):
            smoke.run(context(proxied(**faults)))
        told = steps(capsys.readouterr().err)
        assert told[:step] == STEPS[:step]
        assert set(told[step:]) <= {"clean up"}, "what follows a fault was tried"
        smoke.run(context(platform.mlflow_url))
        assert left(platform) == before, "the next one does not remove what is left"

    def test_mlflow_away_is_a_sentence(self, platform: LocalPlatform) -> None:
        done = run(platform, f"http://127.0.0.1:{free_port()}")
        [told] = done.stderr.splitlines()
        assert done.returncode == 1
        assert re.match("smoke: step 'versions': MLflow at .* does not answer: .*; see whether it is Ready", told)
