"""Counts the data of the platform in the ledger, the object store and the model registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from minio import Minio

from ci.common.console import wait_for
from ci.common.kube import PLATFORM, forward, kube, secret
from tests.kit.world import checksum

MODEL = "house-price"
BY_REQUESTS = ("predictions", "prediction_batches", "shadow_prices")  # tables that grow with every request


def ledger(query: str) -> list[list[str]]:
    """Run a query on the ledger inside the postgres pod; returns the rows."""
    words = ["psql", "-h", "/tmp", "-U", "postgres", "-d", "ledger", "-At", "-F", "\t", "-c", query]
    text = kube("-n", PLATFORM, "exec", "postgres-0", "-c", "postgres", "--", *words)
    return [row.split("\t") for row in text.splitlines()]


@contextmanager
def trusted() -> Iterator[Callable[[str, str], None]]:
    """Gives a function that records a version with a sha256 as a champion, so that predictors may serve it.

    Its rows of the ledger are deleted at the end.
    """
    mark = "registered by a test"

    def trust(version: str, sha256: str) -> None:
        values = f"'{version}', 'promotion', '{mark}', '{sha256}'"
        ledger(f"insert into ledger.champions (version, kind, reason, manifest_sha256) values ({values})")  # noqa: S608

    try:
        yield trust
    finally:
        ledger(f"delete from ledger.champions where reason = '{mark}'")  # noqa: S608


def ledger_rows() -> dict[str, int]:
    """Number of rows of each ledger table, except the tables that grow with requests."""
    where = "where table_schema = 'ledger' and table_type = 'BASE TABLE'"
    tables = ledger(f"select table_name from information_schema.tables {where} order by 1")  # noqa: S608
    kept = [name for [name] in tables if name not in BY_REQUESTS]
    return {f"ledger.{name}": int(ledger(f"select count(*) from ledger.{name}")[0][0]) for name in kept}  # noqa: S608


@contextmanager
def storage() -> Iterator[Minio]:
    """A client of the object store with the root user's keys, through a forwarded port."""
    login = secret(PLATFORM, "minio")
    with forward(PLATFORM, "service/minio", 9000) as url:
        address, user, password = url.removeprefix("http://"), login["MINIO_ROOT_USER"], login["MINIO_ROOT_PASSWORD"]
        yield Minio(address, user, password, secure=False)


def stored_checksum() -> str:
    """Checksum of all stored rows of the usable batches."""
    usable = "select batch_number, raw_key from ledger.batches where state in ('split', 'used') order by 1"
    with storage() as client:

        def read(key: str) -> bytes:
            answer = client.get_object("house-data", key)
            try:
                return answer.read()
            finally:
                answer.close()
                answer.release_conn()

        return checksum(((int(number), key) for number, key in ledger(usable)), read)


def wait_for_logs(runs: int) -> None:
    """Wait for the log of the last task of `runs` runs. Airflow stores it after the run has ended."""
    with storage() as client:

        def stored() -> bool:
            names = [item.object_name or "" for item in client.list_objects("airflow-logs", recursive=True)]
            return sum("/task_id=report/" in name for name in names) == runs

        wait_for(f"the last logs of {runs} runs", stored, 60, every=2)


def objects() -> dict[str, int]:
    """Number of objects and bytes of each bucket."""
    sums: dict[str, int] = {}
    with storage() as client:
        for bucket in client.list_buckets():
            sizes = [item.size or 0 for item in client.list_objects(bucket.name, recursive=True)]
            sums |= {f"{bucket.name}: objects": len(sizes), f"{bucket.name}: bytes": sum(sizes)}
    return sums


def mlflow_login(user: str = "pipeline") -> tuple[str, str]:
    """A user of MLflow and its password."""
    return user, secret(PLATFORM, "mlflow")[f"{user.upper()}_PASSWORD"]


def versions() -> dict[str, int]:
    """Number of registered model versions, and the version of the champion (0 if there is none)."""
    login = mlflow_login("viewer")
    with forward(PLATFORM, "service/mlflow", 5000) as url:
        query: dict[str, str | int] = {"filter": f"name='{MODEL}'", "max_results": 1000}
        answer = httpx.get(f"{url}/api/2.0/mlflow/model-versions/search", params=query, auth=login, timeout=20).json()
        alias = {"name": MODEL, "alias": "champion"}
        champion = httpx.get(
            f"{url}/api/2.0/mlflow/registered-models/alias", params=alias, auth=login, timeout=20
        ).json()
    return {
        "versions": len(answer.get("model_versions", [])),
        "champion": int(champion.get("model_version", {}).get("version", 0)),
    }


def counts() -> dict[str, int]:
    """All counts: ledger, object store and registry."""
    return ledger_rows() | objects() | versions()
