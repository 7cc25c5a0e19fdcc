"""The entrypoint of the image postgres never destroys data, admits one server per volume, and hides passwords.

Every test runs the real script with real PostgreSQL programs.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from ci.common.paths import CHECKOUT
from tests.services.postgres.volumes import PASSWORDS, Start, Volume, command_lines, new_volume, programs, wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

ENTRIES = {f"file-{number}": f"content {number}" for number in range(16)}


@pytest.fixture
def volume() -> Iterator[Volume]:
    with new_volume() as empty:
        yield empty


@pytest.fixture(scope="module")
def first() -> Iterator[tuple[Volume, Start, set[str]]]:
    """A volume after its first start, the running server, and the arguments of all processes meanwhile."""
    with new_volume() as empty:
        with command_lines() as lines:
            start = empty.start().ready()
        yield empty, start, lines


@pytest.fixture(scope="module")
def initialised(first: tuple[Volume, Start, set[str]]) -> Volume:
    """The volume of `first` after a stop, to copy. Tests that need the running server come before."""
    volume, start, _ = first
    start.stop()
    return volume


# the first start


def test_first_start_creates_roles_and_databases(first: tuple[Volume, Start, set[str]]) -> None:
    volume, start, _ = first
    assert start.query("select datdba::regrole::text from pg_database where datname = 'ledger'") == "ledger"
    assert start.query("select current_user::text", "ledger", database="ledger") == "ledger"
    assert start.query("select pg_has_role('pg_monitor', 'member')", "reader") is True
    assert start.query("show data_checksums") == "on"
    assert {path.name for path in volume.data.parent.iterdir()} == {"pgdata", "pgdata.lock"}


def test_only_the_owner_and_the_clients_of_a_database_may_connect(first: tuple[Volume, Start, set[str]]) -> None:
    _, start, _ = first
    assert start.query("select current_user::text", "reader", database="ledger") == "reader"
    for role, database in (("mlflow", "ledger"), ("ledger", "mlflow"), ("reader", "mlflow")):
        with pytest.raises(psycopg.OperationalError, match="does not have CONNECT privilege"):
            start.query("select 1", role, database=database)


def test_connections_over_tcp_need_a_password(first: tuple[Volume, Start, set[str]]) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        first[1].query("select 1", password="wrong")


def test_no_password_is_in_an_argument_or_in_the_log(first: tuple[Volume, Start, set[str]]) -> None:
    _, start, lines = first
    assert any(line.startswith("psql ") for line in lines), "psql was not observed"
    shown = [line for line in [*lines, start.log] for word in PASSWORDS.values() if word in line]
    assert not shown, shown


def test_second_server_on_the_volume_refuses_and_the_first_goes_on(first: tuple[Volume, Start, set[str]]) -> None:
    volume, start, _ = first
    before = (volume.data / "postmaster.pid").read_bytes()
    second = volume.start()
    assert second.ended() == 1
    assert f"another server uses {volume.data}: {volume.data}.lock is locked. Waiting up to 1 s" in second.log
    assert f"another server still uses {volume.data} after 1 s. Nothing was changed. Stop the other pod" in second.log
    assert (volume.data / "postmaster.pid").read_bytes() == before
    assert start.query("select 1") == 1


def test_killed_initdb_heals(volume: Volume) -> None:
    started = f'{programs()}/initdb "$@" & until [ -s "$2/PG_VERSION" ]; do sleep 0.05; done'
    killed = volume.start(stubs={"initdb": f"{started}; kill -KILL $!; exec sleep 60"})
    unfinished = volume.data.with_name("pgdata.new")
    wait_until(lambda: (unfinished / "data" / "PG_VERSION").exists(), "initdb")
    killed.kill()
    assert (unfinished / "incomplete").exists()
    assert not volume.data.exists()
    assert volume.start().ready().query("select 1") == 1
    assert not unfinished.exists()


def test_failed_initdb_leaves_no_data_folder(volume: Volume) -> None:
    start = volume.start(stubs={"initdb": 'echo 17 > "$2/PG_VERSION"; exit 1'})
    assert start.ended() == 1
    assert not volume.data.exists()


def test_half_initialised_folder_of_somebody_else_is_refused(volume: Volume) -> None:
    other = volume.data.with_name("pgdata.new")
    other.mkdir()
    (other / "important").write_text("data")
    before = volume.content()
    start = volume.start()
    assert start.ended() == 1
    assert f"{other} has content that this program did not make. Move it to another name" in start.log
    assert volume.content() == before


def test_missing_password_is_named_before_anything_is_created(volume: Volume) -> None:
    start = volume.start(READER_PASSWORD="")
    assert start.ended() == 1
    assert (
        "READER_PASSWORD is empty: add this key, the password of the role reader, to the Secret postgres." in start.log
    )
    assert volume.content() == {}


# folders that are refused, and stay as they are


@pytest.mark.parametrize("version", ["", "\n", None], ids=["empty", "blank", "missing"])
def test_folder_with_content_and_no_version_is_refused(volume: Volume, version: str | None) -> None:
    volume.fill(ENTRIES | ({} if version is None else {"PG_VERSION": version}))
    before = volume.content()
    start = volume.start()
    assert start.ended() == 1
    count = len(ENTRIES) + (version is not None)
    reason = f"{volume.data} cannot be initialised: PG_VERSION is empty or missing but the folder has {count} entries."
    assert f"{reason} Nothing was changed. Restore the folder from a backup; or" in start.log
    assert volume.content() == before


def test_folder_of_another_major_version_is_refused(volume: Volume) -> None:
    volume.fill(ENTRIES | {"PG_VERSION": "9\n"})
    before = volume.content()
    start = volume.start()
    assert start.ended() == 1
    server = re.search(r"\d+", subprocess.run([programs() / "postgres", "--version"], capture_output=True, text=True,
                                              check=True).stdout)  # fmt: skip
    assert server
    assert f"{volume.data} has data of PostgreSQL 9, and this server is PostgreSQL {server[0]}." in start.log
    [page] = re.findall(r"docs/\S+\.md", start.log)
    assert (CHECKOUT / page).exists()
    assert volume.content() == before


def test_folder_with_only_lost_and_found_asks_for_a_folder_below(volume: Volume) -> None:
    volume.fill({})
    (volume.data / "lost+found").mkdir()
    start = volume.start()
    assert start.ended() == 1
    assert "it is the root of a file system, or belongs to another user. Set PGDATA to a folder below it." in start.log


# later starts


def test_next_server_waits_for_the_end_of_its_predecessor(initialised: Volume, volume: Volume) -> None:
    before = volume.copy_of(initialised).start().ready()
    after = volume.start(POSTGRES_LOCK_SECONDS="60")
    after.wait_for("Waiting up to 60 s")
    before.stop()
    assert after.ready().query("select 1") == 1


def test_changed_password_applies_at_the_next_start(initialised: Volume, volume: Volume) -> None:
    start = volume.copy_of(initialised).start(LEDGER_PASSWORD="another").ready()
    assert start.query("select 1", "ledger", "another", "ledger") == 1
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        start.query("select 1", "ledger", database="ledger")


def test_role_over_its_limit_is_refused_and_no_other_role_is(initialised: Volume, volume: Volume) -> None:
    """The data folder is one of an earlier release, without limits; a start sets them, and another one removes them."""
    limits = "select array_agg(rolconnlimit order by rolname) from pg_roles where rolname in ('ledger', 'reader')"
    start = volume.copy_of(initialised).start(POSTGRES_CONNECTION_LIMITS="reader:2,ledger:3,unused:1").ready()
    assert start.query(limits) == [3, 2]
    with connected(start, "reader"), connected(start, "reader"):
        with pytest.raises(psycopg.OperationalError, match='too many connections for role "reader"'):
            start.query("select 1", "reader")
        assert start.query("select 1", "ledger", database="ledger") == 1
        assert start.query("select 1") == 1
    start.stop()
    assert volume.start().ready().query(limits) == [-1, -1]


def connected(start: Start, user: str) -> psycopg.Connection[Any]:
    """An open connection of a role."""
    password = PASSWORDS[f"{user.upper()}_PASSWORD"]
    return psycopg.connect(host="127.0.0.1", port=start.port, user=user, password=password, dbname="postgres")


@pytest.mark.parametrize("limit", ["", "many", "-2", "3;drop"])
def test_limit_that_is_not_a_number_is_refused(limit: str, initialised: Volume, volume: Volume) -> None:
    start = volume.copy_of(initialised).start(POSTGRES_CONNECTION_LIMITS=f"ledger:{limit}")
    assert start.ended() == 1
    assert f"the limit '{limit}' of the role ledger in POSTGRES_CONNECTION_LIMITS is not a whole number." in start.log


def test_role_of_the_exporter_reads_statistics_and_no_rows(initialised: Volume, volume: Volume) -> None:
    start = volume.copy_of(initialised).start().ready()
    start.query("create table secret as select 1 as value", database="ledger")
    assert start.query("select count(*) > 0 from pg_stat_activity where query is not null", "reader") is True
    assert start.query("select pg_database_size('ledger') > 0", "reader") is True
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        start.query("select value from secret", "reader", database="ledger")
    powers = "rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls"
    assert start.query(f"select {powers} from pg_roles where rolname = 'reader'") is False  # noqa: S608 - a constant
    member = "select array_agg(roleid::regrole::text) from pg_auth_members where member = 'reader'::regrole"
    assert start.query(member) == ["pg_monitor"]


def test_killed_server_recovers_its_rows(initialised: Volume, volume: Volume) -> None:
    """The postmaster.pid that it left names a process that runs: in a container, numbers repeat."""
    start = volume.copy_of(initialised).start().ready()
    start.query("create table kept as select generate_series(1, 5000)")
    start.kill()
    other = subprocess.Popen(["sleep", "300"], **_same_user(volume))
    try:
        pid_file = volume.data / "postmaster.pid"
        lines = pid_file.read_text().split("\n")
        pid_file.write_text("\n".join([str(other.pid), *lines[1:]]))
        again = volume.start().ready()
        assert "database system was not properly shut down; automatic recovery in progress" in again.log
        assert again.query("select count(*) from kept") == 5000
    finally:
        other.kill()
        other.wait()


def test_recovery_may_take_longer_than_a_minute(initialised: Volume, volume: Volume) -> None:
    """The server is not ready at 310 checks, one each 0.2 s. `sleep` returns at once, so that the test is short."""
    count = volume.data.with_name("checks")
    pg_isready = f'echo >> {count}; [ "$(wc -l < {count})" -gt 310 ] || exit 1; exec {programs()}/pg_isready "$@"'
    start = volume.copy_of(initialised).start(stubs={"pg_isready": pg_isready, "sleep": "exit 0"}).ready()
    assert re.findall(r"replays its log after a crash: (\d+) s so far", start.log) == ["30", "60"]


def test_stop_during_recovery_ends_the_server(initialised: Volume, volume: Volume) -> None:
    start = volume.copy_of(initialised).start(stubs={"pg_isready": "exit 1"})
    start.wait_for("ready to accept connections")
    start.process.send_signal(signal.SIGINT)
    assert start.ended() == 143
    assert "database system is shut down" in start.log


def test_server_that_cannot_start_is_reported(initialised: Volume, volume: Volume) -> None:
    volume.copy_of(initialised)
    (volume.data / "global" / "pg_control").unlink()
    before = volume.content()
    start = volume.start()
    assert start.ended() == 1
    assert f"the server ended during its start: see its messages above. The data in {volume.data}" in start.log
    assert {name: bytes for name, (_, bytes) in volume.content().items()} == {
        name: bytes for name, (_, bytes) in before.items()
    }


def _same_user(volume: Volume) -> dict[str, int]:
    status = volume.data.stat()
    return {"user": status.st_uid, "group": status.st_gid} if status.st_uid else {}
