"""A store whose disk is full refuses writes, keeps what it has confirmed, and works again when there is space."""

from __future__ import annotations

import secrets
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
import pytest
from minio import Minio

from ci.local.processes import LocalPlatform
from core.errors import StorageError
from core.stores.objects import Store, open_store
from predictor.record.spill import Spill
from tests.kit.small_disk import MIB, small_disk
from tests.services.postgres.volumes import NOBODY, PASSWORDS, Start, new_volume, wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]  # MinIO is compiled first if it is not in the cache

BUCKET = "data"


def insert_until_refused(server: Start) -> tuple[list[int], str]:
    """Insert rows of 200 kB, each in a transaction of its own; returns the confirmed ids and the error."""
    confirmed: list[int] = []
    password = PASSWORDS["POSTGRES_PASSWORD"]
    with psycopg.connect(
        host="127.0.0.1", port=server.port, user="postgres", password=password, dbname="postgres", autocommit=True
    ) as connection:
        for number in range(1000):
            try:
                connection.execute("insert into kept values (%s, %s)", [number, secrets.token_bytes(200_000)])
            except psycopg.Error as error:
                return confirmed, str(error)
            confirmed.append(number)
    pytest.fail("1,000 rows were stored on a full disk")


def test_postgresql_keeps_confirmed_rows() -> None:
    with new_volume() as volume, small_disk(volume.data.parent, 256 * MIB, NOBODY) as disk:
        server = volume.start().ready()
        server.query("create table kept (id int primary key, content bytea)")
        disk.fill(leave=24 * MIB)
        confirmed, error = insert_until_refused(server)
        assert confirmed, error
        assert "No space left on device" in server.log, "the log does not show the reason"
        disk.empty()
        # The server ends when it cannot write its log, and its pod starts it again. Otherwise it goes on.
        wait_until(lambda: server.process.poll() is not None or answers(server), "end or recovery of the server")
        if server.process.poll() is not None:
            server = volume.start().ready()
        stored = server.query("select array_agg(id order by id) from kept")
        assert stored[: len(confirmed)] == confirmed
        assert len(stored) <= len(confirmed) + 1, "only the last row may be stored without a confirmation"
        server.query("insert into kept values (-1, 'space is back')")
        server.stop()


def answers(server: Start) -> bool:
    """Whether the server runs a query."""
    try:
        return bool(server.query("select 1") == 1)
    except psycopg.OperationalError:
        return False


def put_until_refused(store: Store) -> dict[str, bytes]:
    """Write objects of 2 MiB; returns those that the store confirmed."""
    confirmed: dict[str, bytes] = {}
    for number in range(100):
        content = secrets.token_bytes(2 * MIB)
        try:
            store.put(str(number), content)
        except StorageError:  # the first one may give another reason than the full disk: IncompleteBody
            return confirmed
        confirmed[str(number)] = content
    pytest.fail("100 objects were stored on a full disk")


def refusal(store: Store) -> str:
    """The reason why the store refuses a write; empty if it accepts it."""
    try:
        store.prove_writable()
    except StorageError as error:
        return str(error)
    return ""


def test_minio_keeps_confirmed_objects(tmp_path: Path) -> None:
    (tmp_path / "minio").mkdir()
    with small_disk(tmp_path / "minio", 160 * MIB) as disk, LocalPlatform(tmp_path) as local:
        server = local.start_minio()
        Minio(urlsplit(server.endpoint).netloc, server.access_key, server.secret_key, secure=False).make_bucket(BUCKET)
        store = open_store(f"s3://{BUCKET}", server.endpoint, server.access_key, server.secret_key)
        disk.fill(leave=48 * MIB)
        confirmed = put_until_refused(store)
        assert confirmed
        disk.fill(leave=MIB)  # MinIO may have refused 2 MiB while there was still room for a small object
        # MinIO measures its free space once a second. Until then the write itself fails, with IncompleteBody.
        wait_until(lambda: "minimum free drive threshold" in refusal(store), "refusal of a small object", 30)
        with pytest.raises(StorageError, match="minimum free drive threshold"):
            store.prove_writable()
        assert {key: store.get(key) for key in confirmed} == confirmed
        disk.empty()
        wait_until(lambda: not refusal(store), "writable MinIO", 30)
        store.put("after", b"space is back")
        assert set(store.keys("")) == {*confirmed, "after"}


def test_prediction_log_keeps_its_files(tmp_path: Path) -> None:
    with small_disk(tmp_path, MIB) as disk:
        spill = Spill(tmp_path / "spill", max_bytes=64 * MIB)
        first = uuid4()
        spill.add(first, [(1, "kept")])
        disk.fill(leave=100_000)
        with pytest.raises(OSError, match="No space left on device"):
            spill.add(uuid4(), [(number, "x" * 1000) for number in range(1000)])
        left = [path.name for path in (tmp_path / "spill").iterdir()]
        assert left == [spill.oldest()], "a file that could not be written stays"
        disk.empty()
        spill.add(uuid4(), [(2, "space is back")])
        name = spill.oldest()
        assert name
        assert spill.read(name) == (first, [(1, "kept")])
