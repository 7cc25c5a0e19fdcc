"""`make api-key` stores the hash of a key and shows the key once; `make api-key-revoke` removes it."""

from __future__ import annotations

import hashlib
import json

import pytest

from ci.common.console import Failure
from ci.deploy import api_keys, secrets


class Cluster:
    """Keeps the Secret of the clients."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entries: dict[str, str] | None = None
        for module in (api_keys, secrets):
            monkeypatch.setattr(module, "kube", self.kube)
        monkeypatch.setattr(secrets, "_make", self.make)

    def kube(self, *words: str, stdin: str = "") -> str:
        if "get" in words:
            if self.entries is None:
                return ""
            return f"secret/{api_keys.SECRET}" if "name" in words else "\n".join(self.entries)
        patch = json.loads(stdin)
        assert self.entries is not None
        self.entries |= patch.get("stringData", {})
        self.entries = {k: v for k, v in self.entries.items() if k not in patch.get("data", {})}
        return ""

    def make(self, objects: list[dict[str, dict[str, str]]]) -> None:
        [made] = objects
        assert made["metadata"]["name"] == api_keys.SECRET
        self.entries = made["stringData"]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    return Cluster(monkeypatch)


def test_cluster_has_only_the_hash_of_a_random_key(cluster: Cluster) -> None:
    keys = {name: api_keys.make(name) for name in ("shop", "bank")}
    assert len(set(keys.values())) == 2
    assert min(map(len, keys.values())) >= 43, "256 bits in base64"
    assert cluster.entries == {name: hashlib.sha256(key.encode()).hexdigest() for name, key in keys.items()}


def test_key_is_not_replaced_and_can_be_revoked(cluster: Cluster) -> None:
    for name in ("shop", "bank"):
        api_keys.make(name)
    before = dict(cluster.entries or {})
    with pytest.raises(Failure, match=r"the client shop already has a key, which was not changed.*NAME=shop-2"):
        api_keys.make("shop")
    assert cluster.entries == before
    api_keys.revoke("shop")
    assert api_keys.clients() == ["bank"]
    with pytest.raises(Failure, match=r"no client is called `shop`\. Clients with a key: bank"):
        api_keys.revoke("shop")


@pytest.mark.parametrize("name", ["", "Shop", "API_KEYS", "a b", "-a", "a-", "..data", "é", "a" * 64])
def test_unusable_name_is_refused(cluster: Cluster, name: str) -> None:
    with pytest.raises(Failure, match="is not a name of a client: use up to 63 lower-case letters"):
        api_keys.make(name)
    assert cluster.entries is None


def test_without_a_secret_there_are_no_clients(cluster: Cluster) -> None:
    assert api_keys.clients() == []
    with pytest.raises(Failure, match="Clients with a key: none"):
        api_keys.revoke("shop")
