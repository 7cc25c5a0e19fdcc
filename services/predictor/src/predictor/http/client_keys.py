"""API keys of clients, and the rate limit of each client.

A client has a file in one folder: its name is the client's name, its content the SHA-256 of the client's key. In the
cluster the folder is the Secret `fastapi-clients`, which `make api-key` writes.
"""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from predictor import metrics

log = logging.getLogger(__name__)

SHARED = "API_KEYS"  # client of all keys in that variable; `make api-key` makes names in lower case only
RELOAD_SECONDS = 5.0
BURST_SECONDS = 2.0  # a client that was silent may send the requests of this time at once
_SHA256 = re.compile(r"[0-9a-f]{64}")


class TokenBucket:
    """Limits a rate of requests in this process. A library for this would bring a store and threads of its own."""

    def __init__(self, per_second: float) -> None:
        """`per_second` is above 0."""
        self.per_second = per_second
        self._capacity = max(per_second * BURST_SECONDS, 1.0)
        self._tokens = self._capacity
        self._filled_at = time.monotonic()

    def take(self) -> float:
        """Take a token. Returns 0, or the seconds until there is one; then none was taken."""
        now = time.monotonic()
        self._tokens = min(self._capacity, self._tokens + (now - self._filled_at) * self.per_second)
        self._filled_at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self.per_second
        self._tokens -= 1
        return 0


@dataclass(frozen=True)
class Client:
    """A client with a key."""

    name: str
    bucket: TokenBucket | None  # None: no limit


class ClientKeys:
    """Finds the client of a key. Use it in one thread only.

    Keys are compared by their SHA-256. A slow hash, as for passwords, would protect nothing: a key has 256 random bits,
    so nobody can guess it from its hash, and each request would pay for it. The time of the look-up shows nothing
    either, because nobody can choose a key whose hash begins like a stored one.
    """

    def __init__(self, folder: Path | None, shared: Iterable[str], requests_per_second: float) -> None:
        """Read the folder once. A folder that does not exist has no clients; it may appear later.

        Args:
            folder: one file per client; None if there are none.
            shared: further keys, which belong to the client `API_KEYS`.
            requests_per_second: limit of each client in this process; 0: no limit.
        """
        self._folder = folder
        self._per_second = requests_per_second
        hashes_of_shared = [_hash(key.encode()) for key in shared]
        self._shared = dict.fromkeys(hashes_of_shared, self._client(SHARED)) if hashes_of_shared else {}
        self._hashes: dict[str, str] = {}  # by client, as in the folder
        self._clients = dict(self._shared)  # by hash of the key
        self._reload_at = 0.0
        self._reload()

    @property
    def empty(self) -> bool:
        """Whether there is no key at all."""
        return not self._clients

    def find(self, key: bytes) -> Client | None:
        """The client of a key. Reads the folder again if `RELOAD_SECONDS` have passed."""
        if time.monotonic() >= self._reload_at:
            self._reload()
        return self._clients.get(_hash(key))

    def _reload(self) -> None:
        """Read the folder. A client whose key stays the same keeps the state of its limit."""
        self._reload_at = time.monotonic() + RELOAD_SECONDS
        try:
            hashes = self._read()
        except OSError as error:
            log.warning("the keys of the clients cannot be read, so the last ones stay in force: %s", error)
            return
        if hashes == self._hashes:
            return
        added, gone = sorted(hashes.keys() - self._hashes.keys()), sorted(self._hashes.keys() - hashes.keys())
        clients = dict(self._shared)
        for name, digest in hashes.items():
            if not _SHA256.fullmatch(digest):
                log.error("the file of the client %s does not hold a SHA-256, so the client has no access", name)
                continue
            before = self._clients.get(digest)
            clients.setdefault(digest, before if before and before.name == name else self._client(name))
        for name in gone:
            metrics.forget_client(name)
        self._hashes, self._clients = hashes, clients
        log.info("clients with a key: %d; added: %s; revoked: %s", len(hashes), added or "none", gone or "none")

    def _read(self) -> dict[str, str]:
        """Content of every file by its name. Names with a dot belong to the volume of a Secret."""
        if self._folder is None or not self._folder.exists():
            return {}
        hashes = {}
        for path in self._folder.iterdir():
            if not path.name.startswith("."):
                try:
                    hashes[path.name] = path.read_text(errors="replace").strip()
                except FileNotFoundError:  # revoked at this moment: the link still exists, its file does not
                    continue
        return hashes

    def _client(self, name: str) -> Client:
        metrics.add_client(name)
        return Client(name, TokenBucket(self._per_second) if self._per_second else None)


def _hash(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()
