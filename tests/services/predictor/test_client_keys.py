"""Keys of clients: made and revoked without a restart, hashed at rest, limited and counted per client."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import REGISTRY

from predictor.http import client_keys
from predictor.http.auth import ApiKeys
from predictor.http.client_keys import BURST_SECONDS, RELOAD_SECONDS, ClientKeys


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that the test moves by setting `now`, in seconds."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(client_keys, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def status(keys: ApiKeys, key: str) -> int:
    """Status of the refusal of a request with this key; 200 if it is admitted."""
    scope = {"type": "http", "headers": [(b"authorization", f"Bearer {key}".encode())]}
    refusal = keys.refusal(scope)
    assert keys.refusal(scope) is refusal, "a second question changes nothing"
    return refusal.status_code if refusal else 200


def requests(client: str, outcome: str) -> float | None:
    return REGISTRY.get_sample_value("house_client_requests_total", {"client": client, "outcome": outcome})


def name_of(keys: ClientKeys, key: str) -> str | None:
    client = keys.find(key.encode())
    return client.name if client else None


def test_key_is_made_and_revoked_without_a_restart(tmp_path: Path, clock: SimpleNamespace) -> None:
    folder = tmp_path / "clients"
    keys = ClientKeys(folder, ["shared-key"], 0)
    assert (name_of(keys, "shop-key"), name_of(keys, "shared-key")) == (None, "API_KEYS")
    folder.mkdir()
    (folder / "shop").write_text(sha256("shop-key") + "\n")
    clock.now += RELOAD_SECONDS
    assert name_of(keys, "shop-key") == "shop"
    assert requests("shop", "accepted") == 0, "the series exists before the first request"
    (folder / "shop").unlink()
    clock.now += RELOAD_SECONDS
    assert (name_of(keys, "shop-key"), name_of(keys, "shared-key")) == (None, "API_KEYS")
    assert requests("shop", "accepted") is None, "the series of a revoked client does not stay"


def test_volume_of_a_secret_is_read_while_the_kubelet_replaces_it(tmp_path: Path, clock: SimpleNamespace) -> None:
    """The kubelet renames the link `..data` first, and removes the links of revoked keys afterwards."""
    for version, names in (("..1", ("shop", "bank")), ("..2", ("bank",))):
        (tmp_path / version).mkdir()
        for name in names:
            (tmp_path / version / name).write_text(sha256(f"{name}-key"))
    (tmp_path / "..data").symlink_to("..1")
    for name in ("shop", "bank"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    keys = ClientKeys(tmp_path, [], 0)
    assert [name_of(keys, f"{name}-key") for name in ("shop", "bank")] == ["shop", "bank"]
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    clock.now += RELOAD_SECONDS
    assert [name_of(keys, f"{name}-key") for name in ("shop", "bank")] == [None, "bank"]


def test_hash_and_damaged_file_give_no_access(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text(sha256("shop-key"))
    for name, content in (("text", b"a-key"), ("nothing", b""), ("bytes", b"\xff\0"), ("upper", b"A" * 64)):
        (tmp_path / name).write_bytes(content)
    keys = ClientKeys(tmp_path, [], 0)
    assert name_of(keys, "shop-key") == "shop"
    assert [name_of(keys, wrong) for wrong in (sha256("shop-key"), "a-key", "", "A" * 64)] == [None] * 4


def test_unreadable_folder_leaves_the_last_keys_in_force(
    tmp_path: Path, clock: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").write_text(sha256("shop-key"))
    keys = ClientKeys(tmp_path, [], 0)

    def broken(_: Path) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(Path, "iterdir", broken)
    clock.now += RELOAD_SECONDS
    assert name_of(keys, "shop-key") == "shop"


def test_each_client_has_its_own_rate_limit(tmp_path: Path, clock: SimpleNamespace) -> None:
    for name in ("shop", "bank"):
        (tmp_path / name).write_text(sha256(name))
    keys = ApiKeys(ClientKeys(tmp_path, [], 10))
    burst = int(10 * BURST_SECONDS)
    assert [status(keys, "shop") for _ in range(burst + 2)] == [200] * burst + [429, 429]
    assert status(keys, "bank") == 200, "one client does not take the requests of another one"
    clock.now += 0.1
    assert [status(keys, "shop") for _ in range(2)] == [200, 429], "one request per tenth of a second"
    clock.now += 3600
    assert [status(keys, "shop") for _ in range(burst + 1)] == [200] * burst + [429], "waiting saves up one burst only"
    assert (requests("shop", "accepted"), requests("shop", "rate_limited")) == (2 * burst + 1, 4)
    assert requests("bank", "accepted") == 1


def test_reading_the_folder_again_does_not_reset_the_limit(tmp_path: Path, clock: SimpleNamespace) -> None:
    (tmp_path / "shop").write_text(sha256("shop"))
    keys = ApiKeys(ClientKeys(tmp_path, [], 0.01))
    assert [status(keys, "shop") for _ in range(2)] == [200, 429], "at least one request is possible at once"
    (tmp_path / "bank").write_text(sha256("bank"))
    clock.now += RELOAD_SECONDS
    assert [status(keys, "bank"), status(keys, "shop")] == [200, 429]


@pytest.mark.parametrize(("per_second", "wait"), [(0.01, 100), (10, 1)])
def test_refusal_says_when_to_come_back(tmp_path: Path, clock: SimpleNamespace, per_second: float, wait: int) -> None:
    (tmp_path / "shop").write_text(sha256("shop"))
    keys = ApiKeys(ClientKeys(tmp_path, [], per_second))
    scope = {"headers": [(b"authorization", b"Bearer shop")]}
    refusal = None
    while refusal is None:
        refusal = keys.refusal(dict(scope))
    assert (refusal.status_code, refusal.headers["Retry-After"]) == (429, str(wait))
    assert f"the client shop sent more than {per_second:g} requests per second".encode() in bytes(refusal.body)
    clock.now += wait
    assert keys.refusal(dict(scope)) is None
