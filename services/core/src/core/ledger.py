"""The ledger: which batches came, what was decided and why, what was trained, what became of it.

Whoever comes first makes the schema (`ensure_schema`, versions in `core.migrations`). Every write is keyed by batch
number and content hash, or by MLflow run, so that doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from core import migrations
from core.errors import LedgerError

READER = "predictor"  # role that may read; skipped where it does not exist
_ALONE = 72_615_004  # advisory lock of `Ledger.alone`


@dataclass(frozen=True)
class Batch:
    """A stored batch."""

    batch_number: int
    sha256: str
    state: str
    rows: int
    valid: int | None
    quarantined: int | None
    quarantine: dict[str, int] | None
    raw_key: str


# both are SQL: the batch of the last answer, and what finds a batch of a number with rows to use
_LAST_SEEN = "select batch_number from ledger.calls where outcome = 'batch' order by id desc limit 1"
_USABLE = "select from ledger.batches b where b.batch_number = {} and b.valid is distinct from 0"
_BATCH = "batch_number, sha256, state, rows, valid, quarantined, quarantine, raw_key"


class Ledger:
    """One connection per call: stages are short, and a lost connection is only a call to repeat."""

    def __init__(self, dsn: str, connect_timeout: int = 5, statement_timeout: int = 30) -> None:
        """Times in seconds; nothing is connected yet."""
        self._dsn = dsn
        self._connect_timeout = connect_timeout
        self._options = f"-c statement_timeout={statement_timeout * 1000}"

    @contextmanager
    def _connect(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        try:
            with self._open(row_factory=dict_row) as connection:
                yield connection
        except psycopg.Error as error:
            said = str(error).strip().splitlines() or [repr(error)]
            raise LedgerError(f"the ledger's database failed: {said[0]}") from error

    def _open(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self._dsn, connect_timeout=self._connect_timeout, options=self._options, **options)

    @contextmanager
    def alone(self, seconds: int = 900) -> Iterator[Ledger]:
        """A transaction that nobody else is in: for what must not happen twice at once, as moving the champion's alias.

        What the ledger that it gives is told counts when the block ends without an error, and not at all otherwise.

        Args:
            seconds: to wait for one who is in it.

        Raises:
            LedgerError: somebody is in it for longer.
        """
        with self._connect() as connection:
            try:
                connection.execute("select set_config('lock_timeout', %s, true)", [f"{seconds}s"])
                connection.execute("select set_config('statement_timeout', '0', true)")
                connection.execute("select pg_advisory_xact_lock(%s)", [_ALONE])
            except psycopg.errors.LockNotAvailable as taken:
                raise LedgerError(f"another promotion or rollback has not ended for {seconds} s: try again") from taken
            yield _Within(connection)

    def ensure_schema(self) -> None:
        """Bring the schema to this code's version and let the predictor's role read; safe at any time, by anyone."""
        with self._connect() as connection:
            current = migrations.is_current(connection)
        if not current:
            migrations.upgrade(self._open)
        with self._connect() as connection:
            connection.execute("select pg_advisory_xact_lock(%s)", [migrations.LOCK])
            if connection.execute("select 1 from pg_roles where rolname = %s", [READER]).fetchone():
                for right in ("usage on schema ledger", "select on all tables in schema ledger"):
                    statement = "grant " + right + " to {}"
                    connection.execute(sql.SQL(statement).format(sql.Identifier(READER)))

    # -- batches

    def store(self, number: int, sha256: str, rows: int, raw_key: str, dag_run: str) -> bool:
        """Note a received batch; False if this content of this number is already there."""
        with self._connect() as connection:
            connection.execute("insert into ledger.calls (outcome, batch_number) values ('batch', %s)", [number])
            done = connection.execute(
                "insert into ledger.batches (batch_number, sha256, state, rows, raw_key, dag_run)"
                " values (%s, %s, 'stored', %s, %s, %s) on conflict do nothing",
                [number, sha256, rows, raw_key, dag_run],
            )
            return done.rowcount == 1

    def note_gaps(self, number: int) -> list[int]:
        """Note the numbers below `number` that never came in a usable form, forget those that did; return the first."""
        with self._connect() as connection:
            connection.execute(f"delete from ledger.gaps g where exists ({_USABLE.format('g.batch_number')})")  # noqa: S608
            missing = connection.execute(
                f"select n from generate_series(0, %s - 1) n where not exists ({_USABLE.format('n')})",  # noqa: S608
                [number],
            ).fetchall()
            numbers = [int(row["n"]) for row in missing]
            for gap in numbers:
                connection.execute("insert into ledger.gaps (batch_number) values (%s) on conflict do nothing", [gap])
            return numbers

    def note_lost(self) -> None:
        """Note that an answer of the data API was lost: the batch after the last one may never come again."""
        with self._connect() as connection:
            connection.execute("insert into ledger.calls (outcome) values ('lost')")
            connection.execute(
                "insert into ledger.gaps (batch_number)"  # noqa: S608
                f" select n from (select coalesce(({_LAST_SEEN}), -1) + 1 as n) next"
                f" where not exists ({_USABLE.format('n')}) on conflict do nothing"
            )

    def note_end(self) -> list[int]:
        """Note that the data API has no more batches; return the numbers of those that never came.

        An end right after the last batch, with no answer lost in between, disproves gaps after that batch.
        """
        with self._connect() as connection:
            connection.execute(
                "delete from ledger.gaps"  # noqa: S608
                f" where batch_number > ({_LAST_SEEN}) and 'batch' ="
                " (select outcome from ledger.calls where outcome <> 'end' order by id desc limit 1)"
            )
            connection.execute("insert into ledger.calls (outcome) values ('end')")
        return self.gaps()

    def unfinished(self) -> Batch | None:
        """The oldest batch that is stored and not decided on: a run before this one was interrupted."""
        with self._connect() as connection:
            row = connection.execute(
                f"select {_BATCH} from ledger.batches where state <> 'decided' order by received_at limit 1"  # noqa: S608
            ).fetchone()
            return Batch(**row) if row else None

    def batch(self, number: int) -> Batch:
        """The latest content of a batch number.

        Raises:
            LedgerError: it was never stored.
        """
        with self._connect() as connection:
            row = connection.execute(
                f"select {_BATCH} from ledger.batches where batch_number = %s order by received_at desc limit 1",  # noqa: S608
                [number],
            ).fetchone()
        if row is None:
            raise LedgerError(f"batch {number} is not in the ledger: run fetch before")
        return Batch(**row)

    def set_validated(self, batch: Batch, valid: int, quarantine: dict[str, int]) -> None:
        """Note how many rows are valid, and how many broke which rule."""
        self._update(
            batch,
            "valid = %s, quarantined = %s, quarantine = %s,"
            " state = case state when 'stored' then 'validated' else state end",
            [valid, batch.rows - valid, Jsonb(quarantine)],
        )

    def set_split(self, batch: Batch) -> None:
        """Note that the clean splits are stored."""
        self._update(batch, "state = case state when 'decided' then state else 'split' end", [])

    def decide(self, batch: Batch, decision: str, reason: str, evidence: dict[str, Any]) -> None:
        """Note a decision; the first one on a batch's content stands."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.decisions (batch_number, sha256, decision, reason, evidence)"
                " values (%s, %s, %s, %s, %s) on conflict do nothing",
                [batch.batch_number, batch.sha256, decision, reason, Jsonb(evidence)],
            )
        self._update(batch, "state = 'decided'", [])

    def refuse(self, batch: Batch, reason: str) -> None:
        """Note that no row of a batch can be used: a gap for its number; the next run takes the next batch."""
        self.set_validated(batch, 0, {"refused": batch.rows})
        self.decide(batch, "skip", reason, {})
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.gaps (batch_number) values (%s) on conflict do nothing", [batch.batch_number]
            )

    def decision(self, batch: Batch) -> tuple[str, str] | None:
        """Decision and reason on a batch's content."""
        with self._connect() as connection:
            row = connection.execute(
                "select decision, reason from ledger.decisions where batch_number = %s and sha256 = %s",
                [batch.batch_number, batch.sha256],
            ).fetchone()
            return (row["decision"], row["reason"]) if row else None

    def _update(self, batch: Batch, change: str, values: list[Any]) -> None:
        with self._connect() as connection:
            connection.execute(
                f"update ledger.batches set {change}, updated_at = now() where batch_number = %s and sha256 = %s",  # noqa: S608
                [*values, batch.batch_number, batch.sha256],
            )

    def decided_batches(self) -> list[int]:
        """Numbers of the batches whose clean splits may be trained on, ascending."""
        with self._connect() as connection:
            rows = connection.execute(
                "select distinct batch_number from ledger.batches where state in ('split', 'decided') and valid > 0"
                " order by 1"
            ).fetchall()
            return [int(row["batch_number"]) for row in rows]

    # -- trainings and promotions

    def add_training(
        self, run_id: str, batch_number: int, batches: list[int], rows: int, code_version: str, metrics: dict[str, Any]
    ) -> None:
        """Note a finished training."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.trainings (run_id, batch_number, batches, rows, code_version, metrics)"
                " values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
                [run_id, batch_number, batches, rows, code_version, Jsonb(metrics)],
            )

    def find_training(self, batch_number: int, batches: list[int], code_version: str) -> str | None:
        """MLflow run of an earlier training of the same code on the same batches."""
        with self._connect() as connection:
            row = connection.execute(
                "select run_id from ledger.trainings"
                " where batch_number = %s and batches = %s::integer[] and code_version = %s"
                " order by trained_at desc limit 1",
                [batch_number, batches, code_version],
            ).fetchone()
            return str(row["run_id"]) if row else None

    def add_promotion(
        self, run_id: str, version: str, promoted: bool, reason: str, champion: str | None, metrics: dict[str, Any]
    ) -> None:
        """Note the verdict on a training."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.promotions (run_id, version, promoted, reason, champion, metrics)"
                " values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
                [run_id, version, promoted, reason, champion, Jsonb(metrics)],
            )

    def promotion(self, run_id: str) -> dict[str, Any] | None:
        """The verdict on a training."""
        with self._connect() as connection:
            return connection.execute("select * from ledger.promotions where run_id = %s", [run_id]).fetchone()

    # -- for people

    def history(self) -> list[dict[str, Any]]:
        """All batches in the order in which they came, each with its decision, training and verdict (or null)."""
        with self._connect() as connection:
            rows = connection.execute(_HISTORY).fetchall()
        for row in rows:
            for name in ("received_at", "decided_at", "trained_at", "verdict_at"):
                row[name] = row[name].isoformat(timespec="seconds") if row[name] else None
        return rows

    def gaps(self) -> list[int]:
        """Numbers of batches that never came in a usable form."""
        with self._connect() as connection:
            rows = connection.execute("select batch_number from ledger.gaps order by 1").fetchall()
            return [int(row["batch_number"]) for row in rows]


class _Within(Ledger):
    """A ledger whose calls are all part of one transaction, which whoever opened it ends."""

    def __init__(self, connection: psycopg.Connection[dict[str, Any]]) -> None:
        self._connection = connection

    @contextmanager
    def _connect(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        yield self._connection


_HISTORY = """
select b.batch_number, left(b.sha256, 12) as sha256, b.state, b.rows, b.valid, b.quarantined, b.quarantine,
       b.received_at, d.decision, d.reason, d.decided_at,
       t.run_id, t.rows as training_rows, t.metrics as training_metrics, t.trained_at,
       p.version, p.promoted, p.reason as verdict, p.champion, p.metrics as holdout_metrics, p.decided_at as verdict_at
from ledger.batches b
left join ledger.decisions d using (batch_number, sha256)
left join ledger.trainings t using (batch_number)
left join ledger.promotions p using (run_id)
order by b.received_at, t.trained_at
"""
