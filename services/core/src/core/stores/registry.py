"""Client of MLflow's registry through its REST API, without importing mlflow, with the calls that serving needs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from core.errors import BundleError, RegistryError
from core.model.compatibility import check_mlflow
from core.transport import http_transport

MANIFEST_TAG = "manifest_sha256"  # tag of a registered version, set by the pipeline
BUNDLE_PATH = "data/bundle"  # path of the bundle within a model that the pipeline logged
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_CONNECT_SECONDS = 5.0
_MOST_FILES = 100  # a bundle has eight at most
_DOWNLOAD_SECONDS = 300  # for a whole bundle, so that a very slow server cannot block the caller
ABSENT = {
    "RESOURCE_DOES_NOT_EXIST",
    "INVALID_PARAMETER_VALUE",
}  # error codes: unknown model or run, unknown alias or invalid id


@dataclass(frozen=True)
class ModelVersion:
    """A registered version."""

    name: str
    version: str
    run_id: str
    tags: dict[str, str]
    source: str

    @property
    def manifest_sha256(self) -> str:
        """Sha256 of the bundle's manifest from the version's tags; empty without such a tag."""
        return self.tags.get(MANIFEST_TAG, "")


class RegistryClient:
    """Client of one MLflow server. Each call has the time-out `timeout` (seconds) and one retry.

    Connecting has five seconds at most: some networks drop packets to a Service without pods instead of refusing them,
    and each retry would last as long as the slowest answer.

    `login` is a user of the server and its password; without a user, requests have no login.
    """

    def __init__(
        self,
        uri: str,
        login: tuple[str, str] = ("", ""),
        timeout: float = 5,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._user = login[0]
        self._http = httpx.Client(
            base_url=uri.rstrip("/"),
            auth=login if self._user else None,
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
            transport=transport or http_transport(retries=1),
        )

    def version_by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that has the alias; None if the model or the alias does not exist.

        Raises:
            RegistryError: MLflow did not answer, or its answer cannot be used.
        """
        return self._version("/api/2.0/mlflow/registered-models/alias", {"name": name, "alias": alias})

    def version(self, name: str, version: str) -> ModelVersion | None:
        """A version by its number; None if the model or the version does not exist.

        Raises:
            RegistryError: as in `version_by_alias`.
        """
        return self._version("/api/2.0/mlflow/model-versions/get", {"name": name, "version": version})

    def _version(self, path: str, parameters: dict[str, str]) -> ModelVersion | None:
        body = self._get(path, parameters, may_fail=True)
        if "error_code" in body:
            if body["error_code"] in ABSENT:
                return None
            raise RegistryError(f"MLflow refused {' '.join(parameters.values())}: {body.get('message', body)}")
        try:
            version = body["model_version"]
            tags = {tag["key"]: tag["value"] for tag in version.get("tags", [])}
            return ModelVersion(
                version["name"], str(version["version"]), version.get("run_id", ""), tags, version.get("source", "")
            )
        except (KeyError, TypeError) as malformed:
            raise RegistryError(f"MLflow's answer is not a model version: {body}") from malformed

    def check_server(self, exact: bool = False) -> None:
        """Check the server's version, see `compatibility.check_mlflow`.

        Raises:
            RegistryError: the server does not answer, or its version cannot be used.
        """
        try:
            response = self._http.get("/version").raise_for_status()
        except httpx.HTTPError as away:
            uri = str(self._http.base_url).rstrip("/")
            raise RegistryError(f"MLflow at {uri} does not answer: {away!r}") from away
        check_mlflow(response.text.strip(), exact)

    def check_artifacts(self) -> None:
        """Check that the server reaches its artifacts, which are in an object store.

        Raises:
            RegistryError: it does not.
        """
        self._get(_ARTIFACTS, {"path": "probe"})

    def download(self, version: ModelVersion, directory: Path, max_bytes: int | None = None) -> None:
        """Write the files of a version's bundle into `directory`.

        Raises:
            RegistryError: MLflow did not hand out a file, does not serve artifacts (`--serve-artifacts`), or has a
                version that cannot be used.
            BundleError: the bundle is larger than `max_bytes`, in MLflow's listing or in the download, or has far too
                many files.
        """
        self.check_server()
        parameters = {"name": version.name, "version": version.version}
        uri = self._get("/api/2.0/mlflow/model-versions/get-download-uri", parameters)["artifact_uri"]
        self.download_from(str(uri), directory, max_bytes)

    def download_from(self, uri: str, directory: Path, max_bytes: int | None = None) -> None:
        """Write the bundle's files of a logged model into `directory`. The model's artifacts are at `uri`.

        Raises:
            RegistryError, BundleError: as in `download`.
        """
        parts = urlsplit(uri)
        if parts.scheme != "mlflow-artifacts":
            raise RegistryError(
                f"the model's artifacts are at {uri}, and MLflow does not serve them: start it with --serve-artifacts"
            )
        root = f"{parts.path.strip('/')}/{BUNDLE_PATH}"
        listed = self._get(_ARTIFACTS, {"path": root}).get("files", [])
        files = [item for item in listed if not item.get("is_dir")]
        if len(files) > _MOST_FILES:
            raise BundleError(
                f"the model has {len(files)} files, far more than a bundle has: register models by the pipeline"
            )
        _check_size(sum(int(item.get("file_size") or 0) for item in files), max_bytes)
        directory.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + _DOWNLOAD_SECONDS
        written = 0
        for item in files:
            name = Path(str(item["path"])).name
            path = f"{_ARTIFACTS}/{quote(f'{root}/{name}')}"
            written = self._fetch(path, directory / name, written, max_bytes, until)

    def _get(self, path: str, parameters: dict[str, str], may_fail: bool = False) -> dict[str, Any]:
        try:
            response = self._http.get(path, params=parameters)
        except httpx.HTTPError as error:
            raise RegistryError(f"MLflow at {self._http.base_url} did not answer {path}: {error!r}") from error
        if response.status_code in (401, 403):
            raise RegistryError(
                f"MLflow refused {path} to {self._user or 'a client without a login'} ({response.status_code}): "
                "the user needs the password that the server has (MLFLOW_TRACKING_USERNAME and _PASSWORD)"
            )
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict) or (response.is_error and not (may_fail and "error_code" in body)):
            raise RegistryError(f"MLflow answered {response.status_code} to {path}: {response.text[:200]}")
        return body

    def _fetch(self, path: str, target: Path, written: int, max_bytes: int | None, until: float) -> int:
        """Download a file to `target`; returns `written` plus its size in bytes."""
        try:
            with self._http.stream("GET", path) as response, target.open("wb") as sink:
                response.raise_for_status()
                for part in response.iter_bytes():
                    written += len(part)
                    _check_size(written, max_bytes)
                    if time.monotonic() > until:
                        raise RegistryError(f"MLflow took more than {_DOWNLOAD_SECONDS} s to hand out a bundle")
                    sink.write(part)
        except httpx.HTTPError as error:
            raise RegistryError(f"MLflow did not hand out {target.name}: {error!r}") from error
        return written


def _check_size(size: int, most: int | None) -> None:
    if most is not None and size > most:
        raise BundleError(
            f"the bundle has {size:,} bytes or more, at most {most:,} are downloaded: see MAX_BUNDLE_BYTES"
        )
