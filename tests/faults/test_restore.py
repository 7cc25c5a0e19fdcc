"""A restore drill: both namespaces are deleted with all volumes, and a backup outside the cluster brings them back.

Prints how long the backup and the restore took, and the sizes.
"""

from __future__ import annotations

import secrets
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from minio import Minio

from ci.cluster import docker
from ci.cluster.containers import machine_address
from ci.common.console import say, wait_for
from ci.common.kube import PLATFORM, forward, get, kube, secret
from ci.deploy import backup, platform, runs, workloads
from ci.deploy.secrets import create as create_secrets
from ci.local.minio import minio
from ci.local.processes import answers
from core.model.bundle import load_bundle
from core.stores.registry import RegistryClient
from tests.kit import local_datasource
from tests.kit.platform_data import BY_REQUESTS, ledger, mlflow_login, objects, stored_checksum, versions

pytestmark = pytest.mark.e2e

PORT = 8098
BUCKET = "house-backups"
TARGET_SECRET = "backup-target"


@dataclass(frozen=True)
class Target:
    """An object store on this machine, outside the cluster."""

    address: str
    access_key: str
    secret_key: str

    @property
    def values(self) -> list[str]:
        """Chart values that send backups to it. Rounds start by hand only."""
        s3 = "postgres.backup.target.s3"
        return [
            "global.backup.enabled=true",
            f"global.backup.cidr={self.address}/32",
            f"global.backup.port={PORT}",
            "postgres.backup.schedule=@yearly",
            f"{s3}.endpoint=http://{self.address}:{PORT}",
            f"{s3}.bucket={BUCKET}",
            f"{s3}.prefix=drill",
        ]

    def create_secret(self) -> None:
        """Create the Secret with its keys, as an operator does."""
        keys = (f"--from-literal=ACCESS_KEY={self.access_key}", f"--from-literal=SECRET_KEY={self.secret_key}")
        kube("-n", PLATFORM, "create", "secret", "generic", TARGET_SECRET, *keys)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    address, folder = machine_address(docker.choose()), tmp_path_factory.mktemp("target")
    keys = secrets.token_hex(8), secrets.token_hex(16)
    env = {"MINIO_ROOT_USER": keys[0], "MINIO_ROOT_PASSWORD": keys[1], "MINIO_UPDATE": "off", "MINIO_BROWSER": "off"}
    command = [str(minio()), "server", str(folder / "data"), "--address", f"{address}:{PORT}"]
    with (folder / "minio.log").open("ab") as log:
        process = subprocess.Popen(command, env={"HOME": str(folder), **env}, stdout=log, stderr=log)
    try:
        wait_for("the target", lambda: answers(f"http://{address}:{PORT}/minio/health/ready"), 60)
        Minio(f"{address}:{PORT}", *keys, secure=False).make_bucket(BUCKET)
        yield Target(address, *keys)
    finally:
        process.terminate()
        process.wait(timeout=30)


@dataclass(frozen=True)
class State:
    """The part of the platform that a restore must bring back."""

    rows: dict[str, str]  # hash of all rows by table
    objects: dict[str, int]  # number and bytes of the objects of each bucket
    stored: str  # checksum of the stored batches
    models: dict[str, int]  # number of versions, and the champion
    golden: str  # golden prices and intervals, as the service answered


def state(folder: Path) -> State:
    """The present state of the platform. `folder` gets the champion's bundle."""
    tables = ledger("select table_name from information_schema.tables where table_schema = 'ledger' "
                    "and table_type = 'BASE TABLE' order by 1")  # fmt: skip
    # the row of a backup is written after the backup
    kept = [name for [name] in tables if name not in (*BY_REQUESTS, "backups")]
    rows = {name: ledger(f"select count(*), md5(string_agg(t::text, '|' order by t::text)) from ledger.{name} t")[0][-1]  # noqa: S608
            for name in kept}  # fmt: skip
    copied = {name: count for name, count in objects().items() if name.startswith(("house-data", "mlflow"))}
    return State(rows, copied, stored_checksum(), versions(), golden(folder))


def golden(folder: Path) -> str:
    """The service's answer to the golden listings of the champion. It is the answer that the bundle demands."""
    folder.mkdir()
    with forward(PLATFORM, "service/mlflow", 5000) as url:
        client = RegistryClient(url, mlflow_login("viewer"), timeout=20)
        champion = client.version_by_alias("house-price", "champion")
        assert champion is not None
        client.download(champion, folder)
    bundle = load_bundle(folder)
    with forward(PLATFORM, "service/fastapi", 8000) as url:
        answer = httpx.post(f"{url}/predict", json=bundle.golden_listings, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.json()["prices"] == bundle.golden_prices
    return str([answer.json()[name] for name in ("prices", "low", "high", "model_version")])


def wait_for_prices() -> None:
    """Wait until the predictor has loaded the champion."""
    wait_for("the predictor", lambda: "deployment/fastapi" not in workloads.late_workloads(), 180, every=1)


def test_platform_is_restored_from_nothing_and_continues(source: str, target: Target, tmp_path: Path) -> None:
    config = {"minBatchRows": 100, "minBatchStates": 1, "minStateShare": 0}
    values = [*local_datasource.values(), *target.values,
              *(f"airflow.pipeline.config.{name}={value}" for name, value in config.items())]  # fmt: skip
    platform.remove()
    platform.install("kind", values)
    target.create_secret()
    workloads.wait_ready()
    with runs.airflow() as client:
        assert runs.run_once(client).state == "success"
        began = time.monotonic()
        backup.run(backup.job(backup.installed(), ["full"]))
        say(f"a full backup took {time.monotonic() - began:.0f} s")
        assert runs.run_once(client).state == "success"  # only the WAL and the last round have this batch
    wait_for_prices()
    before = state(tmp_path / "before")
    began = time.monotonic()
    backup.run(backup.job(backup.installed(), ["round"]))
    say(f"a round took {time.monotonic() - began:.0f} s; {before.objects}")
    kinds = ledger("select kind from ledger.backups order by 1")
    assert kinds == [["full"], ["wal"]]
    passwords = secret(PLATFORM, "postgres")

    platform.remove()
    assert _claimed() == []

    create_secrets()
    target.create_secret()
    assert secret(PLATFORM, "postgres") != passwords
    began = time.monotonic()
    backup.restore("latest", "", "kind", values)
    wait_for_prices()
    say(f"from an empty cluster to prices: {time.monotonic() - began:.0f} s")
    assert state(tmp_path / "after") == before

    stored = ledger("select batch_number, sha256 from ledger.batches order by 1")
    with runs.airflow() as client:
        assert runs.run_once(client).state == "success"
    after = ledger("select batch_number, sha256 from ledger.batches order by 1")
    assert [row for row in after if row in stored] == stored
    assert len(after) == len(stored) + 1, "the next batch, and no batch twice"
    assert versions()["versions"] == before.models["versions"] + 1
    backup.run(backup.job(backup.installed(), ["round"]))  # a restored server has no slot, so this is a full backup
    assert ledger("select count(*) from ledger.backups where kind = 'full'") == [["2"]]


def _claimed() -> list[str]:
    """Volumes whose claim is in a namespace of the platform."""
    volumes = get("persistentvolumes")["items"]
    return [item["metadata"]["name"] for item in volumes
            if item["spec"].get("claimRef", {}).get("namespace", "").startswith(PLATFORM)
            and item["status"].get("phase") == "Bound"]  # fmt: skip
