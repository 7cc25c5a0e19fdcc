"""The smoke test on a real MLflow server, directly and through a proxy that causes faults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import mlflow
import pytest

from ci.local.processes import LocalPlatform, free_port
from core.errors import RegistryError
from core.model.bundle import load_bundle
from pipeline.commands import smoke
from pipeline.context import Context
from tests.kit.request_body import read_body
from tests.kit.world import HTTP
from tests.services.pipeline.command import in_own_process, in_this_process
from tests.services.pipeline.conftest import SETTINGS

STEPS = ["versions", "train", "log", "register", "alias", "download", "load", "clean up"]


def test_model_is_one_tree_that_uses_the_size(tmp_path: Path) -> None:
    smoke.grow(SETTINGS, tmp_path)
    bundle = load_bundle(tmp_path)
    assert bundle.booster.rounds == 1
    prices = bundle.predict(smoke.listings())
    assert prices[0] < prices[-1]


class Proxy(BaseHTTPRequestHandler):
    """Forwards requests to MLflow, except for the faults of a test."""

    target = ""
    host = ""  # Host header that MLflow receives
    refuse: tuple[str, str] | None = None  # method and part of a path that get an error 500
    change: tuple[str, bytes] | None = None  # end of a path, and the body of the answer to its GET

    def _pass_on(self) -> None:
        body = read_body(self)
        if self.refuse and self.command == self.refuse[0] and self.refuse[1] in self.path:
            self._answer(500, b'{"error_code": "INTERNAL_ERROR", "message": ".*the disk is full"}')
            return
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding")
        }
        headers["Host"] = self.host or httpx.URL(self.target).netloc.decode()
        answer = HTTP.request(self.command, self.target + self.path, headers=headers, content=body, timeout=60)
        changed = self.change if self.command == "GET" and self.change and self.path.endswith(self.change[0]) else None
        self._answer(answer.status_code, changed[1] if changed else answer.content)

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


def environment(platform: LocalPlatform, **settings: str) -> dict[str, str]:
    """Settings of the command, which needs no ledger."""
    return platform.stage_environment(ledger_dsn="postgresql://127.0.0.1:9/none", **settings)


def context(mlflow_url: str) -> Context:
    """A context for a smoke test within this process, which is faster."""
    return Context(SETTINGS.model_copy(update={"mlflow_tracking_uri": mlflow_url}))


def steps(output: str) -> list[str]:
    """The finished steps in a log."""
    return [match[1] for line in output.splitlines() if (match := re.match(r"(clean up|[a-z]+) +\S", line))]


def left(platform: LocalPlatform) -> dict[str, Any]:
    """Everything that MLflow stores."""
    mlflow.set_tracking_uri(platform.mlflow_url)
    client = mlflow.MlflowClient()
    experiments = [match.experiment_id for match in client.search_experiments()]
    return {
        "models": [model.name for model in client.search_registered_models()],
        "runs": [run.info.run_id for run in client.search_runs(experiments)],
        "logged": [model.model_id for model in client.search_logged_models(experiments)],
        "files": [str(path) for path in (platform.folder / "artifacts").rglob("*") if path.is_file()],
    }


@pytest.fixture
def before(platform: LocalPlatform) -> dict[str, Any]:
    """Everything that MLflow stores before the test."""
    return left(platform)


@pytest.mark.services
@pytest.mark.timeout(900)
class TestOnMlflow:
    """On a real server."""

    def test_every_step_prints_a_line_and_nothing_is_left(
        self, platform: LocalPlatform, before: dict[str, Any]
    ) -> None:
        done = in_own_process(environment(platform), "smoke")
        assert done.returncode == 0, done.stderr
        assert steps(done.stderr) == STEPS
        assert len(done.stderr.splitlines()) == len(STEPS), f"MLflow prints, too: {done.stderr}"
        assert f"MLflow at {platform.mlflow_url} stores a model and returns it" in done.stdout
        assert left(platform) == before
        output = json.loads(in_this_process(environment(platform), "smoke", "--json").stdout)
        assert output["mlflow"] == mlflow.__version__

    @pytest.mark.parametrize(
        ("faults", "step", "words"),
        [
            ({"change": ("/version", b"2.22.0")}, 0, "MLflow's server is 2.22.0, this client .*: deploy images of one"),
            ({"host": "mlflow.elsewhere:5000"}, 2, ".*Invalid Host header.*; add the host .* mlflow.allowedHosts"),
            ({"refuse": ("PUT", "mlflow-artifacts")}, 2, ".*too many 500 .*; see MLflow's log .* MinIO is Ready"),
            ({"refuse": ("POST", "model-versions/create")}, 3, ".*too many 500 error responses.*; see MLflow's log"),
            ({"refuse": ("POST", "registered-models/alias")}, 4, ".*too many 500 .*; make sure that no other"),
            ({"refuse": ("GET", "model-versions/get-download-uri")}, 5, "MLflow answered 500.*; see MLflow's log"),
            ({"change": ("/model.txt", b"tree")}, 6, "model.txt in .* is damaged: .*; see MLflow's log"),
            ({"refuse": ("DELETE", "registered-models")}, 7, ".*too many 500 error responses.*; see MLflow's log"),
        ],
        ids=["version", "host", "artifacts", "register", "alias", "download", "damaged", "clean up"],
    )  # fmt: skip
    def test_fault_gives_an_error_with_its_remedy(
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
        output = steps(capsys.readouterr().err)
        assert output[:step] == STEPS[:step]
        assert set(output[step:]) <= {"clean up"}, "a step after the fault ran"
        smoke.run(context(platform.mlflow_url))
        assert left(platform) == before, "the next test does not clean up"

    def test_unreachable_mlflow_gives_one_line(self, platform: LocalPlatform) -> None:
        away = environment(platform, mlflow_tracking_uri=f"http://127.0.0.1:{free_port()}")
        done = in_this_process(away, "smoke")
        [output] = done.stderr.splitlines()
        assert done.returncode == 1
        assert re.match("smoke: step 'versions': MLflow at .* does not answer: .*; check that it is Ready", output)
