"""`backup.sh` copies the databases and the buckets to a target, and restores them into empty ones.

Every test runs the real script with real PostgreSQL programs, rclone and MinIO.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from minio import Minio
from psycopg.conninfo import make_conninfo

from ci.common.debian import program
from ci.common.paths import CHECKOUT
from ci.local.processes import LocalPlatform
from core.ledger import Ledger
from tests.services.object_store import Provisioned, provisioned
from tests.services.postgres.volumes import NOBODY, PASSWORDS, Start, Volume, give, new_volume, programs

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

SCRIPT = CHECKOUT / "services/postgres/backup.sh"
ROLE = {
    "POSTGRES_BACKUP_ROLE": "backup",
    "BACKUP_PASSWORD": "backup's-Secret",
    "POSTGRES_CLIENTS": "ledger:reader,ledger:backup",
}
BUCKETS = ("house-data", "mlflow")
PAIRS = "house-data:pipeline,mlflow:mlflow"


@dataclass
class Platform:
    """Databases, buckets, and a target for backups."""

    volume: Volume
    server: Start
    store: Provisioned
    target: Path
    settings: dict[str, str] = field(default_factory=dict)

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the script as a user without rights, as in its pod."""
        keys = {f"{user.upper()}_{kind}_KEY": key for user, pair in self.store.keys.items()
                for kind, key in zip(("ACCESS", "SECRET"), pair, strict=True)}  # fmt: skip
        whole = {
            "PATH": platform_path(), "LANG": "C.UTF-8", "PGHOST": "127.0.0.1",
            "PGPORT": str(self.server.port), "PGUSER": "backup", "PGPASSWORD": ROLE["BACKUP_PASSWORD"],
            "S3_ENDPOINT": self.store.server.endpoint, "BACKUP_BUCKETS": PAIRS, "BACKUP_FOLDER": str(self.target),
            "BACKUP_WAIT_SECONDS": "1", "BACKUP_KEEP": "2", "BACKUP_FULL_HOURS": "24",
            "BACKUP_SCRATCH": str(self.volume.folder / "scratch"),
        }  # fmt: skip
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
        return subprocess.run(
            ["sh", SCRIPT, *words], env=whole | keys | self.settings | env, cwd="/", capture_output=True, text=True,
            check=False, timeout=300, **user,
        )  # fmt: skip

    def backup(self, *words: str, **env: str) -> str:
        """Run the script, which must succeed; returns its messages."""
        done = self.run(*words, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stderr

    def full(self) -> str:
        """Make a full backup; returns its name."""
        match = re.search(r"full backup (\w+) is complete and verified", self.backup("full"))
        assert match
        time.sleep(1.1)  # names have seconds
        return match[1]

    def ids(self) -> list[str]:
        """Names of the complete backups."""
        return self.run("list").stdout.split()

    def write(self, value: int) -> None:
        """Add a row to the ledger's database."""
        self.server.query(f"insert into kept values ({value})", database="ledger")  # noqa: S608 - a number

    def rows(self) -> list[int]:
        """The rows of the ledger's database."""
        rows: list[int] = self.server.query("select array_agg(value order by value) from kept", database="ledger")
        return rows

    def client(self) -> Minio:
        """A client with root's keys."""
        server = self.store.server
        return Minio(server.endpoint.removeprefix("http://"), server.access_key, server.secret_key, secure=False)

    def put(self, bucket: str, name: str, text: str) -> None:
        """Write an object."""
        self.client().put_object(bucket, name, io.BytesIO(text.encode()), len(text.encode()))

    def objects(self, bucket: str) -> dict[str, bytes]:
        """Content of all objects by name."""
        client = self.client()
        names = [str(item.object_name) for item in client.list_objects(bucket, recursive=True)]
        return {name: client.get_object(bucket, name).read() for name in names}

    def empty_buckets(self) -> None:
        """Delete the objects of earlier tests, with all versions."""
        client = self.client()
        for bucket in BUCKETS:
            for item in list(client.list_objects(bucket, recursive=True, include_version=True)):
                client.remove_object(bucket, str(item.object_name), version_id=item.version_id)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provisioned]:
    with LocalPlatform(tmp_path_factory.mktemp("store")) as local:
        yield provisioned(local)


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provisioned]:
    """A store whose buckets a restore has to fill."""
    with LocalPlatform(tmp_path_factory.mktemp("empty-store")) as local:
        yield provisioned(local)


@pytest.fixture(scope="module")
def initialised() -> Iterator[Volume]:
    """The volume of a platform without backups: no role, and no rule that admits replication from other hosts."""
    with new_volume() as volume:
        start = volume.start().ready()
        start.query("create table kept (value integer)", database="ledger")
        start.stop()
        yield volume


@contextmanager
def new_target() -> Iterator[Path]:
    """An empty folder for backups."""
    folder = Path(tempfile.mkdtemp(prefix="house-backup-"))
    give(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def target() -> Iterator[Path]:
    with new_target() as folder:
        yield folder


@contextmanager
def started(source: Volume, store: Provisioned, target: Path) -> Iterator[Platform]:
    """A platform with a copy of a volume and empty buckets."""
    with new_volume() as volume:
        server = volume.copy_of(source).start(**ROLE).ready()
        give_scratch(volume)
        platform = Platform(volume, server, store, target)
        platform.empty_buckets()
        yield platform


@pytest.fixture
def platform(initialised: Volume, store: Provisioned, target: Path) -> Iterator[Platform]:
    """A platform without a backup."""
    with started(initialised, store, target) as platform:
        grant(platform.server)
        yield platform


@pytest.fixture(scope="module")
def original(initialised: Volume, store: Provisioned) -> Iterator[Platform]:
    """A platform with a full backup, made once because it takes seconds. Its server is stopped."""
    with new_target() as target, started(initialised, store, target) as platform:
        grant(platform.server)
        platform.full()
        platform.server.stop()
        yield platform


@pytest.fixture
def stopped(original: Platform, target: Path) -> Platform:
    """The platform with a full backup, and a target of this test. Its server is stopped."""
    subprocess.run(["cp", "-a", f"{original.target}/.", target], check=True)
    return replace(original, target=target)


@pytest.fixture
def backed_up(stopped: Platform) -> Iterator[Platform]:
    """A copy of the platform with a full backup. Its server runs."""
    with started(stopped.volume, stopped.store, stopped.target) as platform:
        yield platform


def grant(server: Start) -> None:
    """Like the first stage of a run: create the ledger's tables and grant the rights."""
    Ledger(make_conninfo(host="127.0.0.1", port=server.port, user="ledger", dbname="ledger",
                         password=PASSWORDS["LEDGER_PASSWORD"])).ensure_schema()  # fmt: skip


def give_scratch(volume: Volume) -> None:
    """Create the scratch folder of the script."""
    (volume.folder / "scratch").mkdir()
    give(volume.folder / "scratch")


@contextmanager
def empty(platform: Platform, empty_store: Provisioned) -> Iterator[Platform]:
    """A platform with an empty volume and empty buckets, and the same target. Its server is not started."""
    with new_volume() as volume:
        give_scratch(volume)
        other = Platform(volume, platform.server, empty_store, platform.target, dict(platform.settings))
        other.settings["PGDATA"] = str(volume.data)
        other.empty_buckets()
        yield other


@contextmanager
def restored(platform: Platform, empty_store: Provisioned, *words: str) -> Iterator[Platform]:
    """A platform that was restored, and whose server was started by the entrypoint."""
    with empty(platform, empty_store) as other:
        other.backup("restore", *words)
        other.server = other.volume.start(**ROLE).ready()
        yield other


# backup and restore


def test_restore_brings_back_all_rows_and_objects(platform: Platform, empty_store: Provisioned) -> None:
    """Also those that were written after the full backup."""
    platform.write(1)
    platform.put("mlflow", "models/1", "model")
    platform.full()
    platform.write(2)
    platform.put("mlflow", "models/2", "another model")
    platform.put("house-data", "clean/b2", "rows")
    platform.backup("round")
    platform.write(3)
    platform.backup("round")
    with restored(platform, empty_store, "latest") as copy:
        assert copy.rows() == [1, 2, 3]
        for bucket in BUCKETS:
            assert copy.objects(bucket) == platform.objects(bucket)
        assert copy.server.query("select pg_is_in_recovery()") is False
        assert copy.server.query("select count(*) from pg_replication_slots") == 0
        copy.write(4)
        copy.backup("round")  # without a slot: a full backup
        assert len(platform.ids()) == 2
    with restored(platform, empty_store, "latest") as again:
        assert again.rows() == [1, 2, 3, 4]


def test_rows_before_a_dropped_table_are_restored(platform: Platform, empty_store: Provisioned) -> None:
    platform.write(1)
    platform.full()
    platform.write(2)
    platform.put("mlflow", "models/2", "model")
    platform.backup("round")
    time.sleep(1.1)
    moment = platform.server.query(
        "select to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')"
    )
    platform.server.query("drop table kept", database="ledger")
    platform.client().remove_object("mlflow", "models/2")
    time.sleep(1.1)
    platform.backup("round")
    with restored(platform, empty_store, "latest", moment) as copy:
        assert copy.rows() == [1, 2]
        assert copy.objects("mlflow")["models/2"] == b"model"
    with restored(platform, empty_store, "latest") as copy:
        assert copy.server.query("select to_regclass('kept')", database="ledger") is None
        assert "models/2" not in copy.objects("mlflow")


@pytest.mark.long
def test_earlier_backup_can_be_restored(platform: Platform, empty_store: Provisioned) -> None:
    """With the rows until the next one, because its WAL ends there; and with objects that were deleted since."""
    platform.put("mlflow", "models/1", "model")
    first = platform.full()
    platform.write(1)
    platform.client().remove_object("mlflow", "models/1")
    platform.full()
    platform.write(2)
    platform.backup("round")
    with restored(platform, empty_store, first) as copy:
        assert copy.rows() == [1]
        assert copy.objects("mlflow")["models/1"] == b"model"


@pytest.mark.long
def test_backup_to_an_object_store(platform: Platform, empty_store: Provisioned) -> None:
    if not platform.client().bucket_exists("backups"):
        platform.client().make_bucket("backups")
    server = platform.store.server
    platform.settings = {
        "BACKUP_S3_ENDPOINT": server.endpoint, "BACKUP_S3_BUCKET": "backups", "BACKUP_S3_PREFIX": "house/one",
        "BACKUP_S3_ACCESS_KEY": server.access_key, "BACKUP_S3_SECRET_KEY": server.secret_key,
    }  # fmt: skip
    platform.put("mlflow", "models/1", "model")
    platform.full()
    platform.write(1)
    platform.put("mlflow", "models/2", "model")
    platform.client().remove_object("mlflow", "models/1")
    platform.backup("round")
    platform.full()
    assert not list(platform.target.iterdir())
    with restored(platform, empty_store, "latest") as copy:
        assert copy.rows() == [1]
        assert copy.objects("mlflow") == platform.objects("mlflow")


@pytest.mark.long
def test_large_object_is_compared_although_it_has_no_md5(platform: Platform, empty_store: Provisioned) -> None:
    """MinIO's client sends objects above 5 MiB in parts; the ETag is then not a hash of the content."""
    text = "0123456789abcdef" * (6 << 16)
    platform.put("mlflow", "models/large", text)
    platform.full()
    with restored(platform, empty_store, "latest") as copy:
        assert copy.objects("mlflow")["models/large"] == text.encode()


# what a round does


@pytest.mark.long
def test_round_makes_a_full_backup_when_one_is_due(platform: Platform) -> None:
    platform.backup("round")
    [first] = platform.ids()
    time.sleep(1.1)
    platform.backup("round")
    assert platform.ids() == [first]
    platform.backup("round", BACKUP_FULL_HOURS="0")
    assert len(platform.ids()) == 2


def test_finished_backups_are_rows_of_the_ledger(backed_up: Platform) -> None:
    [first] = backed_up.ids()
    backed_up.write(1)
    backed_up.backup("round")
    rows = backed_up.server.query("select json_agg(b order by kind) from ledger.backups b", database="ledger")
    assert [(row["id"], row["kind"]) for row in rows] == [(first, "full"), ("wal", "wal")]
    folder = backed_up.target / "full" / first
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["base"]["bytes"] == rows[0]["bytes"] == (folder / "base.tar.gz").stat().st_size
    assert manifest["buckets"]["mlflow"] == {"count": 0, "bytes": 0} | manifest["buckets"]["mlflow"]
    assert set(manifest["buckets"]) == set(BUCKETS)


@pytest.mark.long
def test_ledger_without_the_table_does_not_prevent_a_backup(platform: Platform) -> None:
    platform.server.query("drop schema ledger cascade", database="ledger")
    assert "the ledger has no row of it" in platform.backup("full")
    assert len(platform.ids()) == 1


def test_failed_full_backup_leaves_no_backup_and_no_slot(platform: Platform) -> None:
    give(platform.target)
    platform.put("mlflow", "models/1", "model")
    done = platform.run("full", S3_ENDPOINT="http://127.0.0.1:9", RCLONE_RETRIES="1", RCLONE_LOW_LEVEL_RETRIES="1")
    assert done.returncode == 1
    assert "the bucket house-data cannot be read" in done.stderr
    assert platform.ids() == []
    time.sleep(1.1)
    platform.backup("round")
    [kept] = platform.ids()
    slots = platform.server.query("select array_agg(slot_name::text) from pg_replication_slots")
    assert slots == [f"backup_{kept}"]


def test_server_that_does_not_answer_is_named(platform: Platform) -> None:
    platform.server.stop()
    done = platform.run("round")
    assert done.returncode == 1
    assert "no backup was made: PostgreSQL at 127.0.0.1 does not accept connections." in done.stderr


@pytest.mark.long
def test_two_backups_at_a_time_wait_for_each_other(platform: Platform) -> None:
    lock = "select pg_advisory_lock(72615004); select pg_sleep(3)"
    with subprocess.Popen(
        [programs() / "psql", "-qc", lock, f"host=127.0.0.1 port={platform.server.port} user=postgres dbname=postgres"],
        env={"PGPASSWORD": PASSWORDS["POSTGRES_PASSWORD"], "PATH": os.environ["PATH"]}, stdout=subprocess.DEVNULL,
    ):  # fmt: skip
        time.sleep(1)
        start = time.monotonic()
        platform.backup("full")
    assert time.monotonic() - start > 1.5


@pytest.mark.long
def test_wal_beyond_its_limit_leads_to_a_full_backup(platform: Platform) -> None:
    first = platform.full()
    platform.server.query("alter system set max_slot_wal_keep_size = '16MB'")
    platform.server.query("select pg_reload_conf()")
    for value in range(6):
        platform.write(value)
        platform.server.query("select pg_switch_wal()")
    platform.server.query("checkpoint")
    assert f"the WAL of backup_{first} is lost" in platform.backup("round")
    assert len(platform.ids()) == 2


# retention


def test_oldest_backups_are_deleted(platform: Platform) -> None:
    platform.put("mlflow", "models/1", "model")
    first = platform.full()
    platform.client().remove_object("mlflow", "models/1")
    second = platform.full()
    old = platform.target / "buckets" / "mlflow" / "old"
    assert (old / second / "models" / "1").read_text() == "model"
    third = platform.full()
    assert platform.ids() == [second, third]
    assert not (platform.target / "full" / first).exists()
    fourth = platform.full()
    assert platform.ids() == [third, fourth]
    assert not (old / second).exists(), "only a deleted backup needed it"


@pytest.mark.long
def test_failed_backups_do_not_delete_the_last_good_one(platform: Platform) -> None:
    good = platform.full()
    for _ in range(3):
        damaged = platform.run("full", PATH=f"{stub(platform, 'pg_verifybackup', 'exit 1')}:{platform_path()}")
        assert damaged.returncode == 1
        assert "the base backup is damaged. Nothing was copied; the older ones stay." in damaged.stderr
        time.sleep(1.1)
    assert platform.ids() == [good]


@pytest.mark.long
def test_keep_of_zero_keeps_the_last_good_one(platform: Platform) -> None:
    platform.full()
    platform.backup("full", BACKUP_KEEP="0")
    assert len(platform.ids()) == 1


# damage


def test_deleted_and_changed_objects_keep_their_versions(platform: Platform) -> None:
    platform.put("house-data", "clean/b1", "first")
    platform.put("house-data", "clean/b2", "same size 1")
    platform.full()
    platform.client().remove_object("house-data", "clean/b1")
    platform.put("house-data", "clean/b2", "same size 2")
    platform.backup("round")
    [round_] = (platform.target / "buckets" / "house-data" / "old").iterdir()
    assert (round_ / "clean" / "b1").read_text() == "first"
    assert (round_ / "clean" / "b2").read_text() == "same size 1"


def test_base_backup_damaged_at_the_target_is_refused(stopped: Platform, empty_store: Provisioned) -> None:
    [name] = stopped.ids()
    base = stopped.target / "full" / name / "base.tar.gz"
    content = bytearray(base.read_bytes())
    content[len(content) // 2] ^= 1
    base.write_bytes(content)
    with empty(stopped, empty_store) as other:
        done = other.run("restore", "latest")
        assert done.returncode == 1
        assert f"full/{name}/base.tar.gz is damaged" in done.stderr
        assert not other.volume.data.exists()


@pytest.mark.parametrize("damage", ["missing", pytest.param("damaged", marks=pytest.mark.long)])
def test_wal_with_a_missing_or_damaged_segment_is_refused(
    backed_up: Platform, empty_store: Provisioned, damage: str
) -> None:
    """Otherwise the recovery would end before it, and nobody would notice that rows are missing."""
    [name] = backed_up.ids()
    for value in range(3):
        backed_up.write(value)
        backed_up.backup("round")
    middle = sorted((backed_up.target / "full" / name / "wal").iterdir())[-2]
    if damage == "missing":
        middle.unlink()
    else:
        middle.write_bytes(middle.read_bytes()[:-9])
    with empty(backed_up, empty_store) as other:
        done = other.run("restore", "latest")
        assert done.returncode == 1
        expected = (
            "the WAL has a gap before the segment" if damage == "missing" else f"segment {middle.stem} is damaged"
        )
        assert expected in done.stderr
        assert not other.volume.data.exists()


@pytest.mark.long
def test_time_after_the_last_transaction_is_refused(stopped: Platform, empty_store: Provisioned) -> None:
    with empty(stopped, empty_store) as other:
        done = other.run("restore", "latest", "2100-01-01T00:00:00Z")
        assert done.returncode == 1
        assert "recovery ended before configured recovery target was reached" in done.stderr
        assert "the backup has no transaction after 2100-01-01 00:00:00.000000+00" in done.stderr
        assert not other.volume.data.exists()


def test_text_that_is_not_a_time_is_refused(stopped: Platform) -> None:
    done = stopped.run("restore", "latest", "yesterdayish", PGDATA="/nowhere")
    assert done.returncode == 1
    assert "'yesterdayish' is not a time. Example: 2026-11-29T12:00:00Z" in done.stderr


def test_copy_of_the_wal_that_fails_loses_nothing(backed_up: Platform, empty_store: Provisioned) -> None:
    """The receiver has then got the WAL, but the target has not."""
    backed_up.write(1)
    real = Path(program("rclone", "rclone"))
    failing = f'case "$*" in *"/wal "*) exit 1 ;; esac; exec {real} "$@"'
    done = backed_up.run("round", PATH=f"{stub(backed_up, 'rclone', failing)}:{platform_path()}")
    assert done.returncode != 0
    backed_up.write(2)
    backed_up.backup("round")
    with restored(backed_up, empty_store, "latest") as copy:
        assert copy.rows() == [1, 2]


def test_existing_data_is_never_overwritten(backed_up: Platform) -> None:
    before = sorted(backed_up.volume.data.iterdir())
    done = backed_up.run("restore", "latest", PGDATA=str(backed_up.volume.data))
    assert done.returncode == 1
    assert f"{backed_up.volume.data} exists. Nothing was changed" in done.stderr
    assert sorted(backed_up.volume.data.iterdir()) == before


def test_unreachable_target_is_not_an_empty_one(stopped: Platform, empty_store: Provisioned) -> None:
    settings = {"BACKUP_S3_ENDPOINT": "http://127.0.0.1:9", "BACKUP_S3_BUCKET": "b", "BACKUP_S3_PREFIX": "p",
                "BACKUP_S3_ACCESS_KEY": "a", "BACKUP_S3_SECRET_KEY": "s", "RCLONE_LOW_LEVEL_RETRIES": "1"}  # fmt: skip
    with empty(stopped, empty_store) as other:
        done = other.run("restore", "latest", **settings, RCLONE_RETRIES="1")
        assert done.returncode == 1
        assert "the target target:b/p cannot be read" in done.stderr


def platform_path() -> str:
    """PATH of the script's programs."""
    return f"{programs()}:{Path(program('rclone', 'rclone')).parent}:{os.environ['PATH']}"


def stub(platform: Platform, name: str, script: str) -> Path:
    """A folder with a program that replaces another."""
    folder = platform.volume.folder / f"stub-{name}"
    folder.mkdir(mode=0o755, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return folder
