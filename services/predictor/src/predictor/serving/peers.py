"""Downloads the current model from another pod, for a new pod that starts while MLflow is away.

Each pod lists the files of its bundle and serves them (`http/admin.py`) to clients that have the admin key. They get
the same checks as a download from the registry. MLflow decides again as soon as it answers.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from core.errors import HouseError
from core.model.bundle import FILES, MANIFEST, OPTIONAL
from core.stores.registry import ModelVersion

BUNDLE_FILES = (MANIFEST, *FILES, *OPTIONAL)  # pods serve and fetch no other file
TIMEOUT_SECONDS = 5
FETCH_SECONDS = 60  # for a whole bundle

log = logging.getLogger(__name__)


class PeerError(HouseError):
    """Another pod did not send its model. The text has the cause."""


class Peers:
    """The pods behind a headless Service. `url` is its URL, `key` is the admin key of all pods."""

    def __init__(
        self, url: str, key: str, max_bytes: int | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._max_bytes = max_bytes
        self._http = httpx.Client(
            timeout=TIMEOUT_SECONDS, transport=transport, headers={"Authorization": f"Bearer {key}"}
        )

    def addresses(self) -> list[str]:
        """URLs of all pods, this one included; empty if the name does not resolve."""
        try:
            records = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        except OSError as error:
            log.warning("the name of the other pods, %s, cannot be resolved: %s", self._host, error)
            return []
        hosts = sorted({str(address[0]) for *_, address in records})
        return [f"http://{f'[{host}]' if ':' in host else host}:{self._port}" for host in hosts]

    def served(self) -> Iterator[tuple[str, ModelVersion, list[str]]]:
        """For each pod that has a model: its URL, the version, and the names of the bundle's files."""
        for url in self.addresses():
            try:
                answer = self._http.get(f"{url}/admin/bundle")
                if answer.status_code == httpx.codes.OK:
                    yield url, *_listed(answer.json())
                else:
                    log.info("%s has no model to fetch: %s", url, answer.text[:200])
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                log.info("%s has no model to fetch: %r", url, error)

    def fetch(self, url: str, names: list[str], directory: Path) -> None:
        """Download the files of a pod's bundle into `directory`.

        Raises:
            PeerError: a file is missing, or the bundle is too large or too slow.
            OSError: the folder is not writable.
        """
        bytes_left, deadline = self._max_bytes, time.monotonic() + FETCH_SECONDS
        for name in names:
            try:
                with self._http.stream("GET", f"{url}/admin/bundle/{name}") as answer:
                    answer.raise_for_status()
                    with (directory / name).open("wb") as file:
                        for chunk in answer.iter_bytes():
                            file.write(chunk)
                            bytes_left = None if bytes_left is None else bytes_left - len(chunk)
                            if (bytes_left is not None and bytes_left < 0) or time.monotonic() > deadline:
                                raise PeerError(f"the model of {url} is too large, or its download is too slow")
            except httpx.HTTPError as error:
                raise PeerError(f"{url} did not send {name}: {error!r}") from error


def _listed(answer: dict[str, Any]) -> tuple[ModelVersion, list[str]]:
    """The version and the file names in an answer, without names that no bundle has."""
    return ModelVersion(**answer["version"]), [name for name in answer["files"] if name in BUNDLE_FILES]
