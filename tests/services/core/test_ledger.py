"""The ledger in a real PostgreSQL: writes are idempotent, also with several writers."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic.script import ScriptDirectory
from psycopg import sql
from psycopg.rows import dict_row

from ci.common.paths import CHECKOUT
from ci.local.processes import LocalPlatform, free_port
from core.errors import LedgerAwayError, LedgerError, MissingTableError, RefusedRowsError
from core.ledger import Ledger, migrations
from core.ledger.connection import READER
from core.ledger.history import ChampionRow, HistoryRow, TransitionRow
from core.ledger.predictions import InvalidPricesRow, LiveErrorRow
from core.ledger.trainings import PromotionRow, TrainingRow
from tests.services.ledgers import new_ledger

pytestmark = pytest.mark.services

A, B = "aa" * 32, "bb" * 32


@pytest.fixture
def dsn(local: LocalPlatform, request: pytest.FixtureRequest) -> str:
    """A database of this test only: with the schema if the test uses `ledger`, else empty."""
    name = f"ledger_{abs(hash(request.node.nodeid))}"
    return new_ledger(local, name) if "ledger" in request.fixturenames else local.database(name)


@pytest.fixture
def ledger(dsn: str) -> Ledger:
    return Ledger(dsn)


def receive(ledger: Ledger, number: int, sha256: str = A, rows: int = 100) -> bool:
    """Record a call and the batch that it returned. True if the batch is new."""
    ledger.note_call()
    batch = ledger.receive(number, sha256, rows, f"raw/{number}-{sha256[:2]}")
    ledger.set_stored(batch)
    return batch.state == "received"


def finish(ledger: Ledger, number: int) -> None:
    batch = ledger.batch(number)
    ledger.set_validated(batch, batch.rows - 5, 0, {"price missing": 5})
    ledger.set_split(batch)
    ledger.decide(batch, "train", "because", {"rows": batch.rows})


def test_schema_is_created_once_by_many_processes(dsn: str) -> None:
    with ThreadPoolExecutor(8) as together:
        list(together.map(lambda _: Ledger(dsn).ensure_schema(), range(16)))
    ledger = Ledger(dsn)
    receive(ledger, 0)
    ledger.ensure_schema()
    assert ledger.batch(0).rows == 100, "stored rows must stay"


def first_release(dsn: str) -> None:
    """Create the schema of the first release, without a version, with a row in every table."""
    specification = spec_from_file_location("first", migrations.FOLDER / "versions" / "0001_first_tables.py")
    assert specification is not None
    assert specification.loader is not None
    first = module_from_spec(specification)
    specification.loader.exec_module(first)
    with psycopg.connect(dsn) as connection:
        connection.execute(first.TABLES)
        connection.execute(
            """
            insert into ledger.batches
                (batch_number, sha256, state, rows, valid, quarantined, quarantine, raw_key) values
                (0, 'a', 'decided', 100, 93, 7, '{"price missing": 5, "repeated row": 2}', 'raw/0'),
                (1, 'b', 'stored', 50, null, null, null, 'raw/1'),
                (2, 'c', 'decided', 10, 0, 10, '{"refused": 10}', 'raw/2'),
                (3, 'd', 'decided', 20, 20, 0, '{}', 'raw/3'),
                (4, 'e', 'validated', 20, 20, 0, '{}', 'raw/4');
            update ledger.batches set dag_run = 'run-' || batch_number,
                received_at = '2026-01-01'::timestamptz + batch_number * interval '1 hour',
                updated_at = '2026-01-01'::timestamptz + batch_number * interval '1 hour'
                    + (state <> 'stored')::integer * interval '1 minute';
            insert into ledger.calls (outcome, batch_number) values ('batch', 0), ('lost', null), ('batch', 4);
            insert into ledger.gaps (batch_number) values (2);
            insert into ledger.decisions (batch_number, sha256, decision, reason, evidence)
                values (0, 'a', 'train', 'baseline', '{}'), (2, 'c', 'skip', 'lacks price', '{}'),
                       (3, 'd', 'skip', 'small', '{}');
            insert into ledger.trainings (run_id, batch_number, batches, rows, code_version, metrics)
                values ('r', 0, '{0}', 70, 'v', '{}');
            insert into ledger.promotions (run_id, version, promoted, reason, metrics)
                values ('r', '1', true, 'first', '{}');
            """
        )


def contents(dsn: str) -> dict[str, list[dict[str, object]]]:
    """Every row of every table of the ledger."""
    with psycopg.connect(dsn, row_factory=dict_row) as connection:
        tables = connection.execute("select table_name from information_schema.tables where table_schema = 'ledger'")
        names = [str(row["table_name"]) for row in tables.fetchall()]
        every = sql.SQL("select * from ledger.{} order by 1")
        return {name: connection.execute(every.format(sql.Identifier(name))).fetchall() for name in names}


def test_ledger_of_the_first_release_is_migrated_without_loss_by_many_processes(dsn: str) -> None:
    first_release(dsn)
    before = contents(dsn)
    with ThreadPoolExecutor(8) as together:
        list(together.map(lambda _: Ledger(dsn).ensure_schema(), range(8)))
    after = contents(dsn)
    assert after["alembic_version"] == [{"version_num": migrations.NEWEST}]
    for table in ("gaps", "decisions", "promotions"):
        assert after[table] == before[table], table
    assert after["trainings"] == [row | {"manifest_sha256": None} for row in before["trainings"]]
    assert [row["outcome"] for row in after["calls"]] == [row["outcome"] for row in before["calls"]]
    batches = {
        row["batch_number"]: [row[name] for name in ("state", "valid", "quarantined", "duplicates", "quarantine")]
        for row in after["batches"]
    }
    assert batches == {
        0: ["used", 93, 5, 2, {"price missing": 5}],
        1: ["stored", None, None, None, None],
        2: ["quarantined", 0, 10, 0, {"refused": 10}],
        3: ["split", 20, 0, 0, {}],
        4: ["validated", 20, 0, 0, {}],
    }
    for old, new in zip(before["batches"], after["batches"], strict=True):
        for kept in ("batch_number", "sha256", "rows", "raw_key", "received_at"):
            assert new[kept] == old[kept], kept
        steps = Ledger(dsn).transitions(int(str(old["batch_number"])))
        assert [step["state"] for step in steps] == list(dict.fromkeys(["stored", str(new["state"])]))
        assert (steps[0]["run"], steps[0]["at"], steps[-1]["at"]) == (
            old["dag_run"], old["received_at"], old["updated_at"],
        )  # fmt: skip
    Ledger(dsn).ensure_schema()
    assert contents(dsn) == after


def test_versions_are_a_line_of_numbers_without_downgrades() -> None:
    versions = ScriptDirectory(str(migrations.FOLDER))
    line = list(reversed(list(versions.walk_revisions())))
    assert [version.revision for version in line] == [f"{at:04}" for at in range(1, len(line) + 1)]
    assert versions.get_heads() == [migrations.NEWEST]
    for version in line:
        assert Path(version.path).name.startswith(f"{version.revision}_")
        assert not hasattr(version.module, "downgrade"), f"{version.revision} has a downgrade, which would lose data"


def test_database_without_the_schema_is_a_missing_table(dsn: str) -> None:
    with pytest.raises(MissingTableError, match=r'relation "ledger\.batches" does not exist'):
        Ledger(dsn).history()


def test_failed_version_leaves_the_schema_unchanged(dsn: str) -> None:
    with psycopg.connect(dsn) as connection:  # a table of another origin has the same name
        connection.execute("create schema ledger; create table ledger.batches (name text)")
    before = contents(dsn)
    for _ in range(2):
        with pytest.raises(
            LedgerError, match=f"the ledger's schema cannot be migrated to version {migrations.NEWEST}: "
        ) as raised:
            Ledger(dsn).ensure_schema()
        assert "\n" not in str(raised.value)
        assert contents(dsn) == before


def test_newer_schema_is_refused(dsn: str, ledger: Ledger) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("update ledger.alembic_version set version_num = '9999'")
    with pytest.raises(LedgerError, match="the ledger's schema is version 9999, this image knows"):
        ledger.ensure_schema()


def test_ledger_is_imported_without_the_libraries_of_migrations() -> None:
    program = "import sys, core.ledger; sys.exit(bool({'alembic', 'sqlalchemy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_batch_is_stored_once_by_repeated_and_parallel_writers(ledger: Ledger) -> None:
    with ThreadPoolExecutor(8) as together:
        list(together.map(lambda _: receive(ledger, 0), range(16)))
    assert len(ledger.history()) == 1
    assert [step["state"] for step in ledger.transitions(0)] == ["received", "stored"]
    assert not receive(ledger, 0)
    assert receive(ledger, 0, B), "other content of the same number is another batch"
    assert len(ledger.history()) == 2


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (1, 0, 2)])
def test_content_in_use_does_not_depend_on_the_order_of_arrival(ledger: Ledger, order: tuple[int, ...]) -> None:
    contents = [(B, 100), (A, 100), ("cc" * 32, 90)]
    for at in order:
        receive(ledger, 0, *contents[at])
    assert ledger.batch(0).sha256 == A
    for sha256 in (B, "cc" * 32):
        ledger.refuse(ledger.batch(0), "the batch lacks price")
        assert ledger.batch(0).sha256 == sha256, "a content that is quarantined as a whole comes last"


def test_batch_that_was_received_but_not_stored_is_a_gap(ledger: Ledger) -> None:
    receive(ledger, 0)
    ledger.note_call()
    ledger.receive(1, A, 10, "raw/1")
    assert ledger.unfinished() == ledger.batch(0)
    with pytest.raises(LedgerError, match="batch 1 is not in the ledger"):
        ledger.batch(1)
    ledger.note_call()
    assert ledger.note_end() == [1]
    assert receive(ledger, 1)
    assert ledger.gaps() == []


def test_error_about_an_unknown_batch_names_the_stage_to_run(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="batch 7 is not in the ledger: run fetch first"):
        ledger.batch(7)


def test_unfinished_batches_are_returned_in_order_until_they_are_decided(ledger: Ledger) -> None:
    assert ledger.unfinished() is None
    receive(ledger, 1)
    receive(ledger, 0)
    for number in (1, 0):
        batch = ledger.unfinished()
        assert batch is not None
        assert batch.batch_number == number
        finish(ledger, number)
    assert ledger.unfinished() is None
    assert ledger.trainable_batches() == [0, 1]


def test_states_only_go_forward_and_every_transition_has_its_run(dsn: str, ledger: Ledger) -> None:
    receive(ledger, 0)
    batch = ledger.batch(0)
    second = Ledger(dsn, run="second")
    for act, state in (
        (lambda: ledger.set_validated(batch, 95, 0, {"x": 5}), "validated"),
        (lambda: second.set_split(batch), "split"),
        (lambda: second.set_validated(batch, 95, 0, {"x": 5}), "split"),
        (lambda: ledger.set_stored(batch), "split"),
        (lambda: ledger.refuse(batch, "too late"), "split"),
        (lambda: second.add_training("r", 0, [0], 70, "v", {}, A), "used"),
        (lambda: ledger.set_split(batch), "used"),
        (lambda: ledger.set_validated(batch, 89, 1, {"x": 10}), "used"),
    ):
        act()
        assert ledger.batch(0).state == state
    batch = ledger.batch(0)
    assert (batch.valid, batch.quarantined, batch.duplicates, batch.quarantine) == (89, 10, 1, {"x": 10})
    steps = ledger.transitions(0)
    assert [(step["state"], step["run"]) for step in steps] == [
        ("received", "by hand"), ("stored", "by hand"), ("validated", "by hand"), ("split", "second"),
        ("used", "second"),
    ]  # fmt: skip
    assert [step["at"] for step in steps] == sorted(step["at"] for step in steps)


def test_counts_that_do_not_add_up_are_refused(ledger: Ledger) -> None:
    receive(ledger, 0)
    with pytest.raises(LedgerError, match="counts_add_up"):
        ledger.set_validated(ledger.batch(0), 90, 5, {"x": 4})
    assert ledger.batch(0).state == "stored"


def test_first_decision_on_a_content_is_final(ledger: Ledger) -> None:
    receive(ledger, 0)
    batch = ledger.batch(0)
    assert ledger.decision(batch) is None
    ledger.decide(batch, "skip", "too small", {})
    ledger.decide(batch, "train", "changed my mind", {})
    assert ledger.decision(batch) == ("skip", "too small")
    receive(ledger, 0, B, rows=101)
    assert ledger.decision(ledger.batch(0)) is None, "another content needs a new decision"


def test_gap_is_deleted_when_the_batch_arrives(ledger: Ledger) -> None:
    receive(ledger, 3)
    assert ledger.gaps() == [0, 1, 2]
    receive(ledger, 1)
    assert ledger.gaps() == [0, 2]


def call(ledger: Ledger, *answers: int | str) -> list[int]:
    """Record these answers of the data API as fetch does. Returns the gaps at the last end of data."""
    gaps: list[int] = []
    for answer in answers:
        if isinstance(answer, int):
            receive(ledger, answer)
        elif answer == "restart":
            ledger.note_restart()
        elif answer.startswith("not stored"):
            ledger.note_call()
            ledger.receive(int(answer.split()[-1]), A, 100, "raw/key")
        else:
            ledger.note_call()
            if answer == "lost":
                ledger.note_lost()
            elif answer == "refused":
                ledger.note_refused()
            elif answer == "end":
                gaps = ledger.note_end()
                assert gaps == ledger.gaps()
            else:
                assert answer == "killed"
    return gaps


@pytest.mark.parametrize(
    ("answers", "gaps"),
    [
        ((0, 1, 2, "end"), []),
        ((0, 2, "end"), [1]),
        ((0, "lost", 2, "end"), [1]),
        ((0, "lost", 1, "end"), []),
        ((0, 1, "lost", "end"), [2]),
        ((0, 1, "lost", "end", "end"), [2]),
        ((0, 1, "lost", "lost", "end"), [2]),
        (("lost", "end"), [0]),
        (("lost", 0, "end"), []),
        (("end",), []),
        # restarted and drained again
        ((0, 1, "lost", "end", 0, 1, 2, "end"), []),
        ((0, 1, "lost", "end", 0, 1, "end"), []),
        ((0, 1, "lost", "end", 0, 1, "lost", "end"), [2]),
        ((0, 1, "lost", "end", "lost", 1, 2, "end"), []),
        ((0, 1, 2, "end", 0, "lost", 2, "end"), []),
        # refused, or killed before the answer
        ((0, 1, "refused", "end"), []),
        ((0, 1, "killed", "end"), [2]),
        ((0, "killed", 1, "end"), []),
        ((0, "killed", "refused", 2, "end"), [1]),
        ((0, 1, "lost", "refused", "end"), [2]),
        # restarted by a recovery
        ((0, 1, "lost", "end", "restart", 0, 1, 2, "end"), []),
        ((0, 1, "lost", "end", "restart", "lost", 1, 2, "end"), []),
        ((0, 1, "lost", "end", "restart", 0, 1, "end"), []),
        ((0, 1, "lost", "end", "restart", "end"), [2]),
        ((0, 2, "end", "restart", "lost", 1, 2, "end"), []),
    ],
    ids=lambda value: " ".join(map(str, value)) or "none",
)
def test_lost_answer_is_a_gap_until_the_batch_arrives_or_the_end_disproves_it(
    ledger: Ledger, answers: tuple[int | str, ...], gaps: list[int]
) -> None:
    assert call(ledger, *answers) == gaps


@pytest.mark.parametrize(
    ("answers", "needed"),
    [
        ((0, 2, "end"), True),
        ((0, 2, "end", "restart", 0, 2, "end"), False),  # a complete pass: there is no batch 1
        ((0, 2, "end", "restart", 0, 2, "refused", "end", "end"), False),
        ((0, 2, "end", "restart", 0, "lost", 2, "end"), True),
        ((0, 2, "end", "restart", 0, "killed", 2, "end"), True),
        ((0, 2, "end", "restart", 0, "not stored 1", 2, "end"), True),
        ((0, 2, "end", "restart", 0, "lost", 2, "end", "restart", 0, 2, "end"), False),
        ((0, 2, "end", "restart", 0, 2, "end", 3, "lost", "end"), True),  # a new loss after a complete pass
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
def test_data_api_is_restarted_until_a_pass_stored_every_answer(
    ledger: Ledger, answers: tuple[int | str, ...], needed: bool
) -> None:
    call(ledger, *answers)
    assert ledger.needs_restart() == needed


def test_first_run_that_meets_the_end_after_a_restart_is_known(dsn: str, ledger: Ledger) -> None:
    first, second = Ledger(dsn, run="first"), Ledger(dsn, run="second")
    call(first, 0, 2, "end", "restart", 0, 2, "end")
    assert not first.ended_before(), "its retries do not count"
    assert second.ended_before()
    call(second, "restart", 0, 2, "end")
    assert not second.ended_before()
    assert first.ended_before()


def train(ledger: Ledger, run_id: str, number: int, judged: bool) -> None:
    ledger.add_training(run_id, number, ledger.trainable_batches(), 100, "code", {}, A)
    if judged:
        ledger.add_promotion(run_id, "1", False, "worse", None, {})


def test_batch_is_unjudged_from_its_decision_until_a_training_with_it_has_a_verdict(ledger: Ledger) -> None:
    assert ledger.unjudged() is None
    for number in (0, 1):
        receive(ledger, number)
        finish(ledger, number)
    assert ledger.unjudged() == ledger.batch(0)
    train(ledger, "lost", 0, judged=False)
    assert ledger.unjudged() == ledger.batch(0), "a training without a verdict changes nothing"
    train(ledger, "judged", 1, judged=True)
    assert ledger.unjudged() is None, "the training of batch 1 used batch 0, too"


def test_skipped_and_replaced_contents_are_not_unjudged(ledger: Ledger) -> None:
    receive(ledger, 0)
    ledger.set_validated(ledger.batch(0), 100, 0, {})
    ledger.set_split(ledger.batch(0))
    ledger.decide(ledger.batch(0), "skip", "too small", {})
    receive(ledger, 1)
    finish(ledger, 1)
    receive(ledger, 1, B, rows=200)  # is used instead, and has no decision yet
    assert ledger.unjudged() is None


def test_batch_is_resumed_by_three_runs_and_by_their_retries(dsn: str, ledger: Ledger) -> None:
    receive(ledger, 0)
    finish(ledger, 0)
    batch = ledger.batch(0)
    for run in ("first", "second", "third"):
        for _ in range(4):
            again = Ledger(dsn, run=run)
            assert again.unjudged() == batch
            again.note_resumption(batch)
    assert Ledger(dsn, run="fourth").unjudged() is None


def test_refused_batch_is_finished_and_a_gap_and_not_trainable(ledger: Ledger) -> None:
    receive(ledger, 0)
    finish(ledger, 0)
    receive(ledger, 1)
    for _ in range(2):
        ledger.refuse(ledger.batch(1), "the batch lacks price")
    assert ledger.unfinished() is None
    assert ledger.decision(ledger.batch(1)) == ("skip", "the batch lacks price")
    batch = ledger.batch(1)
    assert (batch.state, batch.rows, batch.valid, batch.quarantined) == ("quarantined", 100, 0, 100)
    assert ledger.gaps() == [1]
    assert ledger.trainable_batches() == [0]
    receive(ledger, 1, B)
    finish(ledger, 1)
    assert (ledger.gaps(), ledger.trainable_batches()) == ([], [0, 1])


def test_training_and_verdict_are_recorded_once(ledger: Ledger) -> None:
    receive(ledger, 0)
    finish(ledger, 0)
    for mae in (1.0, 2.0):
        ledger.add_training("r1", 0, [0], 70, "v1", {"test": {"mae": mae}}, A)
        ledger.add_promotion("r1", str(mae), mae == 1.0, "first", None, {"challenger": {"mae": mae}})
    assert ledger.find_training(0, [0], "v1") == "r1"
    for other in ((1, [0], "v1"), (0, [0, 1], "v1"), (0, [0], "v2")):
        assert ledger.find_training(*other) is None
    verdict = ledger.promotion("r1")
    assert verdict is not None
    assert (verdict["version"], verdict["promoted"], verdict["reason"]) == ("1.0", True, "first")
    [row] = ledger.history()
    entry = {name: row[name] for name in ("batch_number", "state", "rows", "valid", "decision", "run_id", "verdict")}
    assert entry == {
        "batch_number": 0, "state": "used", "rows": 100, "valid": 95, "decision": "train", "run_id": "r1",
        "verdict": "first",
    }  # fmt: skip
    assert row["training_metrics"] == {"test": {"mae": 1.0}}


def test_records_have_the_columns_of_their_queries(ledger: Ledger) -> None:
    receive(ledger, 0)
    finish(ledger, 0)
    ledger.add_training("r1", 0, [0], 70, "v1", {}, A)
    ledger.add_promotion("r1", "1", True, "first", None, {"challenger": {}, "champion": None})
    ledger.add_move("1", None, "promotion", "first", A)
    ledger.add_predictions(uuid4(), [prediction("a", 1e5)])
    ledger.add_feedback("a", 0, 2e5)
    rows = {
        TrainingRow: ledger.training("r1"),
        PromotionRow: ledger.promotion("r1"),
        HistoryRow: ledger.history()[0],
        TransitionRow: ledger.transitions(0)[0],
        ChampionRow: ledger.champions()[0],
        LiveErrorRow: ledger.live_errors()[0],
        InvalidPricesRow: ledger.invalid_prices()[0],
    }
    for record, row in rows.items():
        assert row is not None
        assert set(row) == set(record.__annotations__), record.__name__


def test_documented_query_says_who_moved_the_alias(dsn: str, ledger: Ledger) -> None:
    """docs/how-to/operate.md has the query. A move of an earlier release has no actor."""
    text = (CHECKOUT / "docs/how-to/operate.md").read_text()
    [query] = re.findall(r'psql [^"]+-c "\s+(select [^"]+ from ledger\.champions [^"]+)"', text)
    with psycopg.connect(dsn) as connection:
        connection.execute("insert into ledger.champions (version, kind, reason) values ('0', 'promotion', 'earlier')")
    ledger.add_move("1", None, "promotion", "first", A)
    with Ledger(dsn, run="manual__1", actor="Airflow user admin").exclusive() as transaction:
        transaction.add_move("0", "1", "rollback", "absurd prices", A)
    with psycopg.connect(dsn) as connection:
        rows = [row[1:] for row in connection.execute(query).fetchall()]
    assert rows == [
        ("Airflow user admin", "rollback", "1", "0", "absurd prices", "manual__1"),
        ("unknown", "promotion", None, "1", "first", "by hand"),
        (None, "promotion", None, "0", "earlier", None),
    ]


def test_history_does_not_name_people(ledger: Ledger) -> None:
    """The price service shows it without a login."""
    ledger.add_move("1", None, "promotion", "first", A)
    assert "actor" not in ledger.champions()[0]


def test_verdict_needs_a_training(ledger: Ledger) -> None:
    with pytest.raises(RefusedRowsError, match="foreign key"):
        ledger.add_promotion("unknown", "1", True, "", None, {})


@pytest.fixture
def reader(dsn: str, local: LocalPlatform) -> Iterator[str]:
    """The DSN of the predictor's role. The role exists before the ledger, as in the cluster's PostgreSQL."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        if not admin.execute("select from pg_roles where rolname = %s", [READER]).fetchone():
            admin.execute(f"create role {READER} login password 'read'")
    yield psycopg.conninfo.make_conninfo(dsn, user=READER, password="read")
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute(f"drop owned by {READER}")
        admin.execute(f"drop role {READER}")


@pytest.mark.parametrize(
    "write",
    [
        lambda ledger: receive(ledger, 1),
        lambda ledger: ledger.note_call(),
        lambda ledger: ledger.decide(ledger.batch(0), "train", "", {}),
        lambda ledger: ledger.add_training("r", 0, [0], 1, "v", {}, A),
        lambda ledger: ledger.add_move("1", None, "promotion", "because", A),
        lambda ledger: ledger.record_hashes({"r": A}),
    ],
)
def test_predictor_has_only_the_right_to_read_batches(reader: str, dsn: str, write: Callable[[Ledger], object]) -> None:
    owner = Ledger(dsn)
    owner.ensure_schema()
    receive(owner, 0)
    finish(owner, 0)
    as_reader = Ledger(reader)
    assert as_reader.history() == owner.history()
    assert as_reader.gaps() == []
    with pytest.raises(LedgerError, match="permission denied"):
        write(as_reader)


def prediction(
    request_id: str, price: float | None, at: str = "2026-11-28T10:00:00Z", version: str = "1"
) -> tuple[Any, ...]:
    low, high = (None, None) if price is None else (price * 0.9, price * 1.1)
    return at, request_id, 0, '{"bed": 3}', price, low, high, version, 200 if price else 422, None, 0.001


def test_predictor_can_log_predictions_and_feedback_and_delete_only_old_ones(reader: str, dsn: str) -> None:
    Ledger(dsn).ensure_schema()
    log, batch = Ledger(reader), uuid4()
    log.add_predictions(batch, [prediction("a", 100.0), prediction("b", None)])
    log.add_predictions(batch, [prediction("a", 100.0), prediction("b", None)])
    assert [row["request_id"] for row in contents(dsn)["predictions"]] == ["a", "b"], "a batch is stored once"
    assert log.add_feedback("a", 0, 1100.0)
    assert not log.add_feedback("b", 0, 1100.0), "a failed request has no price"
    assert not log.add_feedback("a", 1, 1100.0)
    with pytest.raises(LedgerError, match="at least one day"):
        log.delete_older_than(0)
    with psycopg.connect(reader, autocommit=True) as connection:
        for table in ("predictions", "feedback", "prediction_batches"):
            for change in ("delete from ledger.{}", "update ledger.{} set at = now()"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(sql.SQL(change).format(sql.Identifier(table)))


def test_predictor_can_add_shadow_prices_and_delete_only_old_ones(reader: str, dsn: str) -> None:
    Ledger(dsn).ensure_schema()
    log = Ledger(reader)
    now = datetime.now(UTC)
    rows = [(now - timedelta(days=days), "a", days, "1", 100.0, "2", 100.0 + days) for days in (0, 10, 20, 30)]
    log.add_shadow_prices(rows)
    with psycopg.connect(reader, autocommit=True) as connection:
        differences = connection.execute(
            "select count, mean, median_absolute from ledger.shadow_differences"
        ).fetchone()
        assert differences == (4, pytest.approx(0.15), pytest.approx(0.15))
        with pytest.raises(psycopg.errors.RaiseException, match="at least one day"):
            connection.execute("select ledger.forget_shadow_prices(0, 1)")
        assert [log.delete_older_than(15, most=1) for _ in range(3)] == [1, 1, 0]
        kept = connection.execute("select position from ledger.shadow_prices order by 1").fetchall()
        assert kept == [(0,), (10,)]
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("delete from ledger.shadow_prices")


def test_batch_of_predictions_is_stored_once_by_parallel_writers(dsn: str, ledger: Ledger) -> None:
    batch, rows = uuid4(), [prediction(str(number), 1.0) for number in range(100)]
    with ThreadPoolExecutor(8) as together:
        list(together.map(lambda _: Ledger(dsn).add_predictions(batch, rows), range(8)))
    assert len(contents(dsn)["predictions"]) == 100


def test_batch_that_fails_is_not_stored_and_can_be_repeated(dsn: str, ledger: Ledger) -> None:
    batch, good = uuid4(), prediction("a", 1.0)
    with pytest.raises(RefusedRowsError, match="invalid input syntax"):
        ledger.add_predictions(batch, [good, ("no time", *good[1:])])
    assert contents(dsn)["predictions"] == contents(dsn)["prediction_batches"] == []
    ledger.add_predictions(batch, [good])
    assert len(contents(dsn)["predictions"]) == 1


def test_live_errors_use_the_last_true_price_and_the_last_prediction_of_a_request(ledger: Ledger) -> None:
    again = prediction("a", 200e3, "2026-11-28T11:00:00Z", "2")
    without_interval = (*prediction("d", 10e3, version="3")[:5], None, None, *prediction("d", 10e3, version="3")[7:])
    ledger.add_predictions(
        uuid4(),
        [again, prediction("a", 100e3), prediction("b", 100e3, version="2"), prediction("c", 100e3), without_interval],
    )
    for request_id, price in (("a", 1e3), ("a", 210e3), ("a", 210e3), ("b", 200e3), ("d", 20e3)):
        assert ledger.add_feedback(request_id, 0, price)
    assert ledger.live_errors() == [
        {"model_version": "2", "count": 2, "mae": 55e3, "median_ape": (10 / 210 + 0.5) / 2, "coverage": 0.5},
        {"model_version": "3", "count": 1, "mae": 10e3, "median_ape": 0.5, "coverage": None},
    ]


def test_retention_deletes_old_predictions_with_their_feedback_in_steps_and_one_process_at_a_time(
    dsn: str, ledger: Ledger
) -> None:
    old, new = (datetime.now(UTC) - timedelta(days=days) for days in (11, 9))
    ledger.add_predictions(uuid4(), [prediction(f"old-{n}", 1.0, old.isoformat()) for n in range(5)])
    ledger.add_predictions(uuid4(), [prediction(f"new-{n}", 1.0, new.isoformat()) for n in range(5)])
    for request_id in ("old-0", "new-0"):
        assert ledger.add_feedback(request_id, 0, 1000.0)
    with psycopg.connect(dsn) as other:
        other.execute("select ledger.forget_predictions(1000, 10)")
        assert ledger.delete_older_than(10, 3) == 0, "another process is deleting"
    assert [ledger.delete_older_than(10, 3) for _ in range(3)] == [3, 2, 0]
    tables = contents(dsn)
    assert {row["request_id"] for row in tables["predictions"]} == {f"new-{n}" for n in range(5)}
    assert [row["request_id"] for row in tables["feedback"]] == ["new-0"]


def test_clock_that_jumps_forward_deletes_nothing_until_a_person_confirms_it(dsn: str, ledger: Ledger) -> None:
    """A clock 90 days ahead makes each row look old. The time of the last deletion is set back instead of the clock."""
    old = (datetime.now(UTC) - timedelta(days=11)).isoformat()
    ledger.add_predictions(uuid4(), [prediction(str(number), 1.0, old) for number in range(3)])
    assert ledger.delete_older_than(30) == 0
    with psycopg.connect(dsn) as connection:
        connection.execute("update ledger.retention_clock set seen_at = now() - interval '90 days'")
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"Nothing was deleted, because the clock may be wrong\. .*seen_at = now"):
            ledger.delete_older_than(10)
    assert len(contents(dsn)["predictions"]) == 3
    with psycopg.connect(dsn) as connection:
        connection.execute("update ledger.retention_clock set seen_at = now()")
    assert ledger.delete_older_than(10) == 3


@pytest.mark.parametrize("days", [-30, 6])
def test_pause_of_some_days_and_a_clock_that_is_set_back_do_not_stop_retention(
    dsn: str, ledger: Ledger, days: int
) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute("update ledger.retention_clock set seen_at = now() - make_interval(days => %s)", [days])
    assert ledger.delete_older_than(10) == 0
    with psycopg.connect(dsn) as connection:
        row = connection.execute("select now() - seen_at from ledger.retention_clock").fetchone()
    assert row is not None
    assert timedelta(0) <= row[0] < timedelta(minutes=5), "the next deletion compares with this one"


def test_prediction_log_is_limited_by_size_and_loses_its_oldest_rows(dsn: str, ledger: Ledger) -> None:
    """12,000 rows of about 500 bytes in 12 days, the limit is 3 MiB: about the last 6 days stay."""
    now = datetime.now(UTC)
    for day in range(12, 0, -1):
        at = (now - timedelta(days=day)).isoformat()
        rows = [
            (*prediction(f"{day}-{n}", 1.0, at)[:3], f'{{"text": "{n:0300}"}}', *prediction("", 1.0)[4:])
            for n in range(1000)
        ]
        ledger.add_predictions(uuid4(), rows)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("vacuum analyze ledger.predictions")
        live = "select count(*), min(at), sum(pg_column_size(p.*) + 64) from ledger.predictions p"
        before = connection.execute(live).fetchone()
        assert before is not None
        assert ledger.delete_beyond(1 << 30) == 0
        with pytest.raises(LedgerError, match="at least 1 MiB"):
            ledger.delete_beyond(1000)
        deleted = [ledger.delete_beyond(3 << 20, most=2000) for _ in range(6)]
        after = connection.execute(live).fetchone()
        assert after is not None
    assert deleted[0] == 2000
    assert deleted[-1] == 0, "the limit is reached"
    assert 0.9 * (3 << 20) < after[2] < 1.1 * (3 << 20), f"{before} {after} {deleted}"
    assert after[0] == before[0] - sum(deleted)
    assert now - after[1] < timedelta(days=9), "the oldest rows go first"


def test_models_expire_by_their_verdict_unless_they_were_among_the_last_champions(dsn: str, ledger: Ledger) -> None:
    """Versions 1 to 4 were champions, 4 is the champion. 5 and 6 were rejected, 6 not long ago. 7 has no verdict."""
    receive(ledger, 0)
    for version in map(str, range(1, 8)):
        ledger.add_training(f"run-{version}", 0, [0], 95, version, {}, A)
        if version != "7":
            ledger.add_promotion(f"run-{version}", version, version < "5", "because", None, {})
    for version in "1", "2", "3", "4":
        ledger.add_move(version, None, "promotion", "because", A)
    with psycopg.connect(dsn) as connection:
        for table, time in (("promotions", "decided_at"), ("champions", "at")):
            connection.execute(
                sql.SQL("update ledger.{} set {} = now() - interval '40 days' where version <> '6'").format(
                    sql.Identifier(table), sql.Identifier(time)
                )
            )
    expired = ledger.expired_models
    assert set(expired(30, 1)) == {"run-1", "run-2", "run-3", "run-5"}
    assert set(expired(30, 3)) == {"run-1", "run-5"}
    assert expired(50, 1) == []
    ledger.add_move("1", "4", "rollback", "because", A)
    assert set(expired(30, 1)) == {"run-2", "run-3", "run-5"}, "4 was in service until now"


def test_unreachable_database_is_reported_in_bounded_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts the connection and never answers
        for port, seconds in ((free_port(), 2.0), (silent.getsockname()[1], 5.0)):
            away = Ledger(f"postgresql://postgres@127.0.0.1:{port}/ledger", connect_timeout=2)
            began = time.monotonic()
            with pytest.raises(LedgerError, match="the ledger's database failed: ") as raised:
                away.history()
            assert raised.type is LedgerAwayError, "a missing answer is neither a missing table nor refused rows"
            assert time.monotonic() - began < seconds
            assert "\n" not in str(raised.value)


def test_statement_that_hangs_is_ended(dsn: str, ledger: Ledger) -> None:
    receive(ledger, 0)
    with psycopg.connect(dsn) as other:
        other.execute("lock table ledger.batches in access exclusive mode")
        with pytest.raises(LedgerError, match="statement timeout"):
            Ledger(dsn, statement_timeout=1).batch(0)
