"""MLflow's registry through its REST API, without importing mlflow: what a serving process needs, and no more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from core.compatibility import check_mlflow
from core.errors import BundleError, RegistryError

MANIFEST_TAG = "manifest_sha256"  # of a registered version, set by the pipeline
BUNDLE_PATH = "data/bundle"  # of the bundle within a model logged by the pipeline
_MOST_FILES = 100  # of a bundle, which has a handful
_DOWNLOAD_SECONDS = 300  # for a whole bundle: a server that hands out a byte now and then holds nobody up
_ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # no such model, no such alias


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
        """Sha256 of its bundle's manifest, as it was registered; empty if it was registered without."""
        return self.tags.get(MANIFEST_TAG, "")


class RegistryClient:
    """A client for one MLflow server. Every call has the time-out `timeout` (seconds) and one retry."""

    def __init__(self, uri: str, timeout: float = 5, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(
            base_url=uri.rstrip("/"), timeout=timeout, transport=transport or httpx.HTTPTransport(retries=1)
        )

    def champion(self, name: str, alias: str) -> ModelVersion | None:
        """The version that the alias names; None if there is no such model or alias.

        Raises:
            RegistryError: MLflow did not answer, or not as it should.
        """
        return self._version("/api/2.0/mlflow/registered-models/alias", {"name": name, "alias": alias})

    def version(self, name: str, version: str) -> ModelVersion | None:
        """A version by its number; None if there is no such model or version.

        Raises:
            RegistryError: as `champion`.
        """
        return self._version("/api/2.0/mlflow/model-versions/get", {"name": name, "version": version})

    def _version(self, path: str, named: dict[str, str]) -> ModelVersion | None:
        answer = self._get(path, named, may_fail=True)
        if "error_code" in answer:
            if answer["error_code"] in _ABSENT:
                return None
            raise RegistryError(f"MLflow refused {' '.join(named.values())}: {answer.get('message', answer)}")
        try:
            found = answer["model_version"]
            tags = {tag["key"]: tag["value"] for tag in found.get("tags", [])}
            return ModelVersion(
                found["name"], str(found["version"]), found.get("run_id", ""), tags, found.get("source", "")
            )
        except (KeyError, TypeError) as malformed:
            raise RegistryError(f"MLflow answered something else than a model version: {answer}") from malformed

    def check_server(self, exact: bool = False) -> None:
        """Compare the server's version with the client's; see `compatibility.check_mlflow`.

        Raises:
            RegistryError: it is away, or of a version that cannot be used.
        """
        try:
            answer = self._http.get("/version").raise_for_status()
        except httpx.HTTPError as away:
            uri = str(self._http.base_url).rstrip("/")
            raise RegistryError(f"MLflow at {uri} does not answer: {away!r}") from away
        check_mlflow(answer.text.strip(), exact)

    def download(self, version: ModelVersion, directory: Path, max_bytes: int | None = None) -> None:
        """Write the files of a version's bundle into `directory`.

        Raises:
            RegistryError: MLflow did not hand out a file, its artifacts are not proxied (`--serve-artifacts`), or its
                version is another.
            BundleError: it is longer than `max_bytes`, by what MLflow lists or by what it hands out, or has far too
                many files.
        """
        self.check_server()
        where = {"name": version.name, "version": version.version}
        uri = self._get("/api/2.0/mlflow/model-versions/get-download-uri", where)["artifact_uri"]
        self.download_from(str(uri), directory, max_bytes)

    def download_from(self, uri: str, directory: Path, max_bytes: int | None = None) -> None:
        """Write the files of the bundle of a logged model, whose artifacts lie at `uri`, into `directory`.

        Raises:
            RegistryError, BundleError: as `download`.
        """
        parts = urlsplit(uri)
        if parts.scheme != "mlflow-artifacts":
            raise RegistryError(f"the model lies at {uri}: start MLflow with --serve-artifacts")
        root = f"{parts.path.strip('/')}/{BUNDLE_PATH}"
        listed = self._get("/api/2.0/mlflow-artifacts/artifacts", {"path": root}).get("files", [])
        files = [item for item in listed if not item.get("is_dir")]
        if len(files) > _MOST_FILES:
            raise BundleError(f"it has {len(files)} files, a bundle has a handful: register it through the pipeline")
        _check_size(sum(int(item.get("file_size") or 0) for item in files), max_bytes)
        directory.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + _DOWNLOAD_SECONDS
        written = 0
        for item in files:
            name = Path(str(item["path"])).name
            path = f"/api/2.0/mlflow-artifacts/artifacts/{quote(f'{root}/{name}')}"
            written = self._fetch(path, directory / name, written, max_bytes, until)

    def _get(self, path: str, parameters: dict[str, str], may_fail: bool = False) -> dict[str, Any]:
        try:
            answer = self._http.get(path, params=parameters)
            content = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise RegistryError(f"MLflow at {self._http.base_url} did not answer {path}: {error!r}") from error
        if not isinstance(content, dict) or (answer.is_error and not (may_fail and "error_code" in content)):
            raise RegistryError(f"MLflow answered {answer.status_code} to {path}: {answer.text[:200]}")
        return content

    def _fetch(self, path: str, target: Path, written: int, max_bytes: int | None, until: float) -> int:
        """Write a file; returns `written` plus its bytes."""
        try:
            with self._http.stream("GET", path) as answer, target.open("wb") as sink:
                answer.raise_for_status()
                for part in answer.iter_bytes():
                    written += len(part)
                    _check_size(written, max_bytes)
                    if time.monotonic() > until:
                        raise RegistryError(f"MLflow took more than {_DOWNLOAD_SECONDS} s to hand out a bundle")
                    sink.write(part)
        except httpx.HTTPError as error:
            raise RegistryError(f"MLflow did not hand out {target.name}: {error!r}") from error
        return written


def _check_size(found: int, most: int | None) -> None:
    if most is not None and found > most:
        raise BundleError(f"it has {found:,} bytes or more, at most {most:,} are downloaded: see MAX_BUNDLE_BYTES")
