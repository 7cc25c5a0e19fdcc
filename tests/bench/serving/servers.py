"""The servers: ours, the echo and the peers, with their start and their request formats.

Every server has one worker, pinned to one core with all its threads. Peers get finished features, and return the output
of the trees. Ours gets raw listings, and returns prices. MLflow's server with our bundle is the only peer that does the
same work. If a server has several formats, the bench uses the fastest one.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ci.common.console import run, wait_for
from ci.common.paths import CHECKOUT
from ci.local.processes import LocalPlatform, answers, free_port
from tests.bench.serving.environments import PEERS, PREDICTOR, environment
from tests.bench.serving.model import Rows, Served

ENVIRONMENT = {  # same as in the images
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}
_NOWHERE = "http://127.0.0.1:9"
_NEVER = "3600"
_START_SECONDS = 300  # peers have many imports, and the machine may be busy


@dataclass(frozen=True)
class Form:
    """A request format of a server."""

    name: str
    path: str
    encode: Callable[[Rows], bytes]
    decode: Callable[[bytes], list[float]]
    headers: Callable[[bytes], dict[str, str]] = lambda _: {}

    def request(self, rows: Rows) -> bytes:
        """A complete HTTP request."""
        body = self.encode(rows)
        headers = {"Host": "bench", "Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (headers | self.headers(body)).items()]
        return "\r\n".join([f"POST {self.path} HTTP/1.1", *lines, "", ""]).encode() + body


@dataclass(frozen=True)
class Server:
    """A server of the bench."""

    name: str
    install: Callable[[], Path]  # returns the folder of its programs
    start: Callable[[LocalPlatform, Path, Served, int], None]  # with that folder, on a port; returns when it answers
    one: tuple[Form, ...]  # for one row
    many: tuple[Form, ...]  # for a list; may be none
    expected: Callable[[Rows], np.ndarray] = field(default=lambda rows: rows.outputs)


# -- ours, and the echo


def _ours() -> Path:
    """The environment of the image (services/Dockerfile)."""
    return environment("predictor", PREDICTOR / "requirements.lock", without=PREDICTOR / "excludes.txt")


def _command(programs: Path, port: int, app: str = "") -> list[str]:
    """The command of the image, on a port of this machine."""
    match = re.search(r"^CMD (\[.*\])$", (PREDICTOR / "Dockerfile").read_text(), re.MULTILINE)
    words: list[str] = json.loads(match[1]) if match else []
    program, *options, served = words
    return [str(programs / program), *options, "--bind", f"127.0.0.1:{port}", app or served]


def _path(*more: Path) -> dict[str, str]:
    sources = [CHECKOUT / "services" / name / "src" for name in ("core", "predictor")]
    return {"PYTHONPATH": os.pathsep.join(map(str, [*sources, *more]))}


def _start_ours(local: LocalPlatform, programs: Path, served: Served, port: int) -> None:
    local.mlflow_url = _NOWHERE
    settings = ENVIRONMENT | _path() | {"POLL_SECONDS": _NEVER, "BUNDLE_DIR": str(served.cache)}
    url = local.start_predictor(port, _command(programs, port), **settings)
    wait_for("the model", lambda: answers(f"{url}/health/ready"), 30)


def _start_echo(local: LocalPlatform, programs: Path, served: Served, port: int) -> None:
    env = ENVIRONMENT | _path(Path(__file__).parent)
    local.start("echo", _command(programs, port, "echo:app"), f"http://127.0.0.1:{port}/", env, _START_SECONDS)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sizes(body: bytes) -> list[float]:
    return [json.loads(body)["house_size"]]


_LISTING = Form(
    "raw listing", "/predict", lambda rows: _json(rows.listings[0]), lambda body: [json.loads(body)["price"]]
)
_LISTINGS = Form("raw listings", "/predict", lambda rows: _json(rows.listings), lambda body: json.loads(body)["prices"])
_ECHO = Form("raw listing", "/predict", _LISTING.encode, _sizes)

OURS = Server("predictor", _ours, _start_ours, (_LISTING,), (_LISTINGS,), lambda rows: rows.prices)
ECHO = Server(
    "echo", _ours, _start_echo, (_ECHO,), (), lambda rows: np.array([each["house_size"] for each in rows.listings])
)


# -- peers


def _doubles(rows: Rows) -> list[list[float]]:
    """The features with all digits, for servers that read numbers as float64."""
    return rows.matrix.astype(np.float64).tolist()  # type: ignore[no-any-return]


def _floats(rows: Rows) -> list[float]:
    """The features, row after row, with few digits, for servers that read them as float32."""
    return [float(str(value)) for value in rows.matrix.ravel()]


def _peer(name: str, python: str = "") -> Callable[[], Path]:
    lock = PEERS / name / "requirements.lock"
    return lambda: environment(name, lock, python) if python else environment(name, lock)


def _surroundings(programs: Path, **more: str) -> dict[str, str]:
    return {**ENVIRONMENT, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": "", **more}


def _start_mlflow(name: str, model: str) -> Callable[[LocalPlatform, Path, Served, int], None]:
    def start(local: LocalPlatform, programs: Path, served: Served, port: int) -> None:
        models = local.folder / "mlflow-models"
        env = _surroundings(programs, MLFLOW_DISABLE_TELEMETRY="true", UVICORN_ACCESS_LOG="false") | _path()
        if not models.exists():
            save = [programs / "python", PEERS / "mlflow" / "save.py", models, served.text, served.bundle]
            run(save, env={**os.environ, **env})
        command = [str(programs / "mlflow"), "models", "serve", "--model-uri", str(models / model)]
        command += ["--env-manager", "local", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)]
        local.start(name, command, f"http://127.0.0.1:{port}/ping", env, _START_SECONDS)

    return start


def _start_mlserver(local: LocalPlatform, programs: Path, served: Served, port: int) -> None:
    folder = local.folder / "mlserver-model"
    for name, batching in (("house", {}), ("gathered", {"max_batch_size": 16, "max_batch_time": 0.001})):
        (folder / name).mkdir(parents=True, exist_ok=True)
        settings = {"name": name, "implementation": "mlserver_lightgbm.LightGBMModel"}
        parameters = {"parameters": {"uri": str(served.text)}}
        (folder / name / "model-settings.json").write_text(json.dumps(settings | batching | parameters))
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_endpoint": None,
        "debug": False,
        "gzip_enabled": False,
        "parallel_workers": 0,  # in the process of the server: one worker, and no second process
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [str(programs / "mlserver"), "start", str(folder)]
    local.start(
        "mlserver", command, f"http://127.0.0.1:{port}/v2/models/house/ready", _surroundings(programs), _START_SECONDS
    )


def _start_kserve(local: LocalPlatform, programs: Path, served: Served, port: int) -> None:
    logs = local.folder / "kserve-logs.json"  # turns off the three log lines per request
    logs.write_text(
        json.dumps({"version": 1, "loggers": {"kserve": {"level": "ERROR"}, "uvicorn": {"level": "ERROR"}}})
    )
    command = [str(programs / "python"), str(PEERS / "kserve" / "server.py"), "--model_file", str(served.text)]
    command += ["--http_port", str(port), "--enable_grpc", "false", "--enable_latency_logging", "false"]
    command += ["--log_config_file", str(logs)]
    local.start(
        "kserve", command, f"http://127.0.0.1:{port}/v2/models/house/ready", _surroundings(programs), _START_SECONDS
    )


def _start_bentoml(local: LocalPlatform, programs: Path, served: Served, port: int) -> None:
    command = [str(programs / "bentoml"), "serve", "service:House", "--working-dir", str(PEERS / "bentoml")]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    env = _surroundings(
        programs,
        MODEL_FILE=str(served.text),
        BENTOML_HOME=str(local.folder / "bentoml"),
        BENTOML_DO_NOT_TRACK="true",
        PYTHONDONTWRITEBYTECODE="1",
    )
    local.start("bentoml", command, f"http://127.0.0.1:{port}/readyz", env, _START_SECONDS)


def _v2(rows: Rows) -> dict[str, Any]:
    return {"name": "features", "datatype": "FP32", "shape": list(rows.matrix.shape)}


def _v2_json(rows: Rows) -> bytes:
    return _json({"inputs": [_v2(rows) | {"data": _floats(rows)}]})


def _v2_doubles(rows: Rows) -> bytes:
    return _json({"inputs": [_v2(rows) | {"datatype": "FP64", "data": _doubles(rows)}]})


def _v2_binary(rows: Rows) -> bytes:
    """The binary tensor extension: JSON, then the bytes of the numbers."""
    head = {"inputs": [_v2(rows) | {"parameters": {"binary_data_size": rows.matrix.nbytes}}]}
    return _json(head) + rows.matrix.tobytes()


def _v2_binary_headers(body: bytes) -> dict[str, str]:
    head = body.index(b"}]}") + len(b"}]}")
    return {"Inference-Header-Content-Length": str(head), "Content-Type": "application/octet-stream"}


def _v2_outputs(body: bytes) -> list[float]:
    return json.loads(body)["outputs"][0]["data"]  # type: ignore[no-any-return]


def _predictions(body: bytes) -> list[float]:
    return json.loads(body)["predictions"]  # type: ignore[no-any-return]


def _split(rows: Rows) -> bytes:
    names = [f"Column_{at}" for at in range(rows.matrix.shape[1])]
    return _json({"dataframe_split": {"columns": names, "data": _doubles(rows)}})


def _listings_split(rows: Rows) -> bytes:
    data = [list(listing.values()) for listing in rows.listings]
    return _json({"dataframe_split": {"columns": list(rows.listings[0]), "data": data}})


def _csv(rows: Rows) -> bytes:
    lines = [[f"Column_{at}" for at in range(rows.matrix.shape[1])], *_doubles(rows)]
    return "\n".join(",".join(map(str, line)) for line in lines).encode()


_MLFLOW = (
    Form("inputs", "/invocations", lambda rows: _json({"inputs": _doubles(rows)}), _predictions),
    Form("dataframe_split", "/invocations", _split, _predictions),
    Form("CSV", "/invocations", _csv, _predictions, lambda _: {"Content-Type": "text/csv"}),
)
_MLFLOW_LISTINGS = (
    Form("raw, split", "/invocations", _listings_split, _predictions),
    Form("raw, records", "/invocations", lambda rows: _json({"dataframe_records": rows.listings}), _predictions),
)
_MLSERVER = (
    Form("V2 FP32", "/v2/models/house/infer", _v2_json, _v2_outputs),
    Form("V2 FP64, nested", "/v2/models/house/infer", _v2_doubles, _v2_outputs),
)
_MLSERVER_GATHERED = Form("V2 FP32, gathered", "/v2/models/gathered/infer", _v2_json, _v2_outputs)
_KSERVE = (
    Form("V1", "/v1/models/house:predict", lambda rows: _json({"instances": _doubles(rows)}), _predictions),
    Form("V2 FP32", "/v2/models/house/infer", _v2_json, _v2_outputs),
    Form("V2 binary", "/v2/models/house/infer", _v2_binary, _v2_outputs, _v2_binary_headers),
)
_BENTOML = tuple(
    Form(f"JSON, {name}", f"/{name}", lambda rows: _json({"features": _doubles(rows)}), json.loads)
    for name in ("in_thread", "inline", "of_lists", "gathered")
)

PEER_SERVERS = (
    Server("mlflow", _peer("mlflow"), _start_mlflow("mlflow", "features"), _MLFLOW, _MLFLOW),
    Server(
        "mlflow-listings",
        _peer("mlflow"),
        _start_mlflow("mlflow-listings", "listings"),
        _MLFLOW_LISTINGS,
        _MLFLOW_LISTINGS,
        lambda rows: rows.prices,
    ),
    Server("mlserver", _peer("mlserver", ">=3.11,<3.13"), _start_mlserver, (*_MLSERVER, _MLSERVER_GATHERED), _MLSERVER),
    Server("kserve", _peer("kserve"), _start_kserve, _KSERVE, _KSERVE),
    Server("bentoml", _peer("bentoml"), _start_bentoml, _BENTOML, _BENTOML),
)
