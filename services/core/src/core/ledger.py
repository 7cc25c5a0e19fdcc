"""The ledger: which batches came, what was decided and why, what was trained, what became of it, what was predicted.

Whoever comes first makes the schema (`ensure_schema`, versions in `core.migrations`). Every write is keyed by batch
number and content hash, by MLflow run, or by an id of its own, so that doing it twice changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from core import migrations
from core.errors import LedgerError

Connection = psycopg.Connection[dict[str, Any]]

READER = "predictor"  # role that may read, and log what it predicts; skipped where it does not exist
RIGHTS = (  # of that role
    "usage on schema ledger",
    "select on all tables in schema ledger",
    "insert on ledger.predictions, ledger.prediction_batches, ledger.feedback, ledger.shadow_prices",
    "execute on function ledger.forget_predictions, ledger.forget_shadow_prices",
)
# of a row of `add_predictions`, in order
PREDICTION = "at, request_id, position, listing, price, low, high, model_version, status, error, seconds"
# of a row of `add_shadow_prices`, in order
SHADOW_PRICE = "at, request_id, position, champion_version, champion_price, challenger_version, challenger_price"
_ALONE = 72_615_004  # advisory lock of `Ledger.alone`
# a server that is gone without a word is noticed after 25 s, not after hours
_VANISHED: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


@dataclass(frozen=True)
class Batch:
    """A batch's content. Its rows are `valid` + `quarantined` + `duplicates`, all None until they are judged."""

    batch_number: int
    sha256: str
    state: str  # received, stored, quarantined, validated, split, used
    rows: int
    valid: int | None
    quarantined: int | None
    duplicates: int | None
    quarantine: dict[str, int] | None  # rows per rule
    raw_key: str


_BATCH = "batch_number, sha256, state, rows, valid, quarantined, duplicates, quarantine, raw_key"
# Of several contents of a number one stands, whatever the order in which they came: the longest that is not
# quarantined as a whole.
_STANDING = "order by (state = 'quarantined')::integer, rows desc, sha256 limit 1"
# all three are SQL: the batch of the last answer (-1 after a restart), whether a call after the last answer was lost,
# and what finds a batch of a number with rows to use
_LAST_SEEN = (
    "select case outcome when 'batch' then batch_number else -1 end as number"
    " from ledger.calls where outcome in ('batch', 'restart') order by id desc limit 1"
)
_LOST_SINCE = (
    "select 'lost' = (select outcome from ledger.calls where outcome in ('batch', 'lost') order by id desc limit 1)"
)
_USABLE = "select from ledger.batches b where b.batch_number = {} and b.state not in ('received', 'quarantined')"


class Ledger:
    """One connection per call: stages are short, and a lost connection is only a call to repeat."""

    def __init__(self, dsn: str, connect_timeout: int = 5, statement_timeout: int = 30, run: str = "by hand") -> None:
        """Times in seconds; `run` is who writes, as the rows will say. Nothing is connected yet."""
        self._dsn = dsn
        self._run = run
        self._connect_timeout = connect_timeout
        self._options = f"-c statement_timeout={statement_timeout * 1000}"

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        try:
            with self._open(row_factory=dict_row) as connection:
                yield connection
        except psycopg.Error as error:
            said = str(error).strip().splitlines() or [repr(error)]
            raise LedgerError(f"the ledger's database failed: {said[0]}") from error

    def _open(self, **options: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(
            self._dsn, connect_timeout=self._connect_timeout, options=self._options, **_VANISHED, **options
        )

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
            yield _Within(connection, self._run)

    def ensure_schema(self) -> None:
        """Bring the schema to this code's version, give the predictor its rights; safe at any time, by anyone."""
        with self._connect() as connection:
            current = migrations.is_current(connection)
        if not current:
            migrations.upgrade(self._open)
        with self._connect() as connection:
            connection.execute("select pg_advisory_xact_lock(%s)", [migrations.LOCK])
            if connection.execute("select 1 from pg_roles where rolname = %s", [READER]).fetchone():
                for right in RIGHTS:
                    statement = "grant " + right + " to {}"
                    connection.execute(sql.SQL(statement).format(sql.Identifier(READER)))

    # -- calls of the data API

    def note_call(self) -> None:
        """Note that the data API is about to be called; a call that is never answered counts as lost."""
        with self._connect() as connection:
            self._lose(connection)
            connection.execute("insert into ledger.calls (outcome, run) values ('asked', %s)", [self._run])

    def note_refused(self) -> None:
        """Note that the data API refused the call, so that its cursor has not moved."""
        with self._connect() as connection:
            connection.execute("update ledger.calls set outcome = 'refused' where outcome = 'asked'")

    def note_lost(self) -> None:
        """Note that an answer of the data API was lost: the batch after the last one may never come again."""
        with self._connect() as connection:
            self._lose(connection)

    def _lose(self, connection: Connection) -> None:
        lost = connection.execute("update ledger.calls set outcome = 'lost' where outcome = 'asked'")
        if lost.rowcount:
            connection.execute(
                "insert into ledger.gaps (batch_number)"  # noqa: S608
                f" select n from (select coalesce(({_LAST_SEEN}), -1) + 1 as n) next"
                f" where not exists ({_USABLE.format('n')}) on conflict do nothing"
            )

    def note_end(self) -> list[int]:
        """Note that the data API has no more batches; return the numbers of those that never came.

        An end right after a batch, with no answer lost in between, disproves gaps after that batch.
        """
        with self._connect() as connection:
            connection.execute("update ledger.calls set outcome = 'end' where outcome = 'asked'")
            seen = connection.execute(_LAST_SEEN).fetchone()
            if seen and seen["number"] >= 0:
                connection.execute(
                    f"delete from ledger.gaps where batch_number > %s and not ({_LOST_SINCE})",  # noqa: S608
                    [seen["number"]],
                )
                self._note_gaps(connection, seen["number"] + 1)
        return self.gaps()

    def begin_recovery(self, gaps: list[int]) -> bool:
        """Whether the data API is to be restarted to fill these gaps: once for each set of them.

        Until `note_restart` says that the restart arrived, the answer stays yes, so that a crash in between costs
        nothing.
        """
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.recoveries (gaps, run) values (%s, %s) on conflict do nothing",
                [sorted(gaps), self._run],
            )
            row = connection.execute(
                "select restarted_at from ledger.recoveries where gaps = %s::integer[]", [sorted(gaps)]
            ).fetchone()
            return row is not None and row["restarted_at"] is None

    def note_restart(self, gaps: list[int]) -> None:
        """Note that the data API begins again at its first batch, to fill these gaps."""
        with self._connect() as connection:
            connection.execute(
                "update ledger.recoveries set restarted_at = now() where gaps = %s::integer[]", [sorted(gaps)]
            )
            connection.execute("insert into ledger.calls (outcome, run) values ('restart', %s)", [self._run])

    # -- batches

    def receive(self, number: int, sha256: str, rows: int, raw_key: str) -> Batch:
        """Note the batch that a call brought; known before, it is as it was."""
        with self._connect() as connection:
            connection.execute(
                "update ledger.calls set outcome = 'batch', batch_number = %s where outcome = 'asked'", [number]
            )
            new = connection.execute(
                "insert into ledger.batches (batch_number, sha256, state, rows, raw_key)"
                " values (%s, %s, 'received', %s, %s) on conflict do nothing",
                [number, sha256, rows, raw_key],
            ).rowcount
            row = connection.execute(
                f"select {_BATCH} from ledger.batches where batch_number = %s and sha256 = %s",  # noqa: S608
                [number, sha256],
            ).fetchone()
            assert row is not None  # noqa: S101 - inserted or there before, and nothing is ever deleted
            batch = Batch(**row)
            if new:
                self._note_transition(connection, batch, "received")
            return batch

    def set_stored(self, batch: Batch) -> list[int]:
        """Note that the raw rows are stored; return the numbers below that never came in a usable form."""
        with self._connect() as connection:
            self._advance(connection, batch, "stored")
            return self._note_gaps(connection, batch.batch_number)

    def set_validated(self, batch: Batch, valid: int, duplicates: int, quarantine: dict[str, int]) -> None:
        """Note how many rows are valid, how many repeat another one, and how many broke which rule.

        Raises:
            LedgerError: the counts do not add up to the rows received.
        """
        with self._connect() as connection:
            self._count(connection, batch, valid, duplicates, quarantine)
            self._advance(connection, batch, "validated")

    def set_split(self, batch: Batch) -> None:
        """Note that the clean splits are stored."""
        with self._connect() as connection:
            self._advance(connection, batch, "split")

    def refuse(self, batch: Batch, reason: str) -> None:
        """Quarantine a batch as a whole: its number is a gap, and the next run takes the next batch."""
        with self._connect() as connection:
            if self._advance(connection, batch, "quarantined"):
                self._count(connection, batch, 0, 0, {"refused": batch.rows})
            self._note_gaps(connection, batch.batch_number + 1)
            self._decide(connection, batch, "skip", reason, {})

    def _count(
        self, connection: Connection, batch: Batch, valid: int, duplicates: int, quarantine: dict[str, int]
    ) -> None:
        connection.execute(
            "update ledger.batches set valid = %s, quarantined = %s, duplicates = %s, quarantine = %s"
            " where batch_number = %s and sha256 = %s",
            [valid, sum(quarantine.values()), duplicates, Jsonb(quarantine), batch.batch_number, batch.sha256],
        )

    def _advance(self, connection: Connection, batch: Batch, state: str) -> bool:
        """Move a batch on to a state, if it was not there yet: states never go back, and each is entered once."""
        moved = connection.execute(
            "update ledger.batches set state = %s where batch_number = %s and sha256 = %s"
            " and state < %s::ledger.batch_state",
            [state, batch.batch_number, batch.sha256, state],
        )
        if moved.rowcount:
            self._note_transition(connection, batch, state)
        return bool(moved.rowcount)

    def _note_transition(self, connection: Connection, batch: Batch, state: str) -> None:
        connection.execute(
            "insert into ledger.transitions (batch_number, sha256, state, run) values (%s, %s, %s, %s)",
            [batch.batch_number, batch.sha256, state, self._run],
        )

    def _note_gaps(self, connection: Connection, below: int) -> list[int]:
        """Note the numbers below this one that never came in a usable form, forget those that did; return the first."""
        connection.execute(f"delete from ledger.gaps g where exists ({_USABLE.format('g.batch_number')})")  # noqa: S608
        missing = connection.execute(
            "insert into ledger.gaps (batch_number)"  # noqa: S608
            f" select n from generate_series(0, %s - 1) n where not exists ({_USABLE.format('n')})"
            " on conflict (batch_number) do update set noticed_at = gaps.noticed_at returning batch_number as n",
            [below],
        ).fetchall()
        return sorted(int(row["n"]) for row in missing)

    def unfinished(self) -> Batch | None:
        """The oldest batch that is stored and not decided on: a run before this one was interrupted."""
        with self._connect() as connection:
            row = connection.execute(
                f"select {_BATCH} from ledger.batches b where state in ('stored', 'validated', 'split')"  # noqa: S608
                " and not exists (select from ledger.decisions d"
                " where (d.batch_number, d.sha256) = (b.batch_number, b.sha256)) order by received_at limit 1"
            ).fetchone()
            return Batch(**row) if row else None

    def batch(self, number: int) -> Batch:
        """The content of a batch number that stands: of several, the longest that is not quarantined as a whole.

        Raises:
            LedgerError: it was never stored.
        """
        with self._connect() as connection:
            row = connection.execute(
                f"select {_BATCH} from ledger.batches where batch_number = %s and state <> 'received' {_STANDING}",  # noqa: S608
                [number],
            ).fetchone()
        if row is None:
            raise LedgerError(f"batch {number} is not in the ledger: run fetch before")
        return Batch(**row)

    def decide(self, batch: Batch, decision: str, reason: str, evidence: dict[str, Any]) -> None:
        """Note a decision; the first one on a batch's content stands."""
        with self._connect() as connection:
            self._decide(connection, batch, decision, reason, evidence)

    def _decide(
        self, connection: Connection, batch: Batch, decision: str, reason: str, evidence: dict[str, Any]
    ) -> None:
        connection.execute(
            "insert into ledger.decisions (batch_number, sha256, decision, reason, evidence)"
            " values (%s, %s, %s, %s, %s) on conflict do nothing",
            [batch.batch_number, batch.sha256, decision, reason, Jsonb(evidence)],
        )

    def decision(self, batch: Batch) -> tuple[str, str] | None:
        """Decision and reason on a batch's content."""
        with self._connect() as connection:
            row = connection.execute(
                "select decision, reason from ledger.decisions where batch_number = %s and sha256 = %s",
                [batch.batch_number, batch.sha256],
            ).fetchone()
            return (row["decision"], row["reason"]) if row else None

    def decided_batches(self) -> list[int]:
        """Numbers of the batches whose clean splits may be trained on, ascending."""
        with self._connect() as connection:
            rows = connection.execute(
                "select distinct batch_number from ledger.batches where state in ('split', 'used') order by 1"
            ).fetchall()
            return [int(row["batch_number"]) for row in rows]

    # -- trainings and promotions

    def add_training(
        self, run_id: str, batch_number: int, batches: list[int], rows: int, code_version: str, metrics: dict[str, Any]
    ) -> None:
        """Note a finished training; the batches whose rows it used are used from now on."""
        with self._connect() as connection:
            for number in batches:
                row = connection.execute(
                    f"select {_BATCH} from ledger.batches where batch_number = %s and state = 'split' {_STANDING}",  # noqa: S608
                    [number],
                ).fetchone()
                if row:
                    self._advance(connection, Batch(**row), "used")
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

    def training(self, run_id: str) -> dict[str, Any] | None:
        """A finished training."""
        with self._connect() as connection:
            return connection.execute("select * from ledger.trainings where run_id = %s", [run_id]).fetchone()

    def untrained_batches(self) -> list[int]:
        """Numbers of the batches whose clean splits no finished training has used, ascending."""
        with self._connect() as connection:
            rows = connection.execute(
                "select distinct batch_number from ledger.batches where state = 'split' order by 1"
            ).fetchall()
            return [int(row["batch_number"]) for row in rows]

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

    def add_move(self, version: str, before: str | None, kind: str, reason: str) -> None:
        """Note that the champion's alias moves: by a promotion or a rollback, from one version to another."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.champions (version, before, kind, reason, run) values (%s, %s, %s, %s, %s)",
                [version, before, kind, reason, self._run],
            )

    # -- predictions

    def add_predictions(self, batch: UUID, rows: Iterable[tuple[Any, ...]]) -> None:
        """Store the rows of a batch, all or none; a batch that was stored before stays as it is.

        Args:
            batch: a new id for these rows.
            rows: of `PREDICTION`; `at` in ISO 8601, `listing` as JSON text.
        """
        with self._connect() as connection:
            new = connection.execute(
                "insert into ledger.prediction_batches (id) values (%s) on conflict do nothing", [batch]
            ).rowcount
            if new:
                with connection.cursor().copy(f"copy ledger.predictions ({PREDICTION}) from stdin") as copy:
                    for row in rows:
                        copy.write_row(row)

    def add_feedback(self, request_id: str, position: int, price: float) -> bool:
        """Note the true price of a predicted listing; the last one that was told counts.

        Returns:
            False if no price was predicted under this request id at this position, as far as is still known.
        """
        with self._connect() as connection:
            predicted = connection.execute(
                "select from ledger.predictions where request_id = %s and position = %s and price is not null limit 1",
                [request_id, position],
            ).fetchone()
            if predicted is None:
                return False
            connection.execute(
                "insert into ledger.feedback (request_id, position, price)"
                " select %(request_id)s, %(position)s, %(price)s where %(price)s is distinct from"
                " (select price from ledger.feedback where request_id = %(request_id)s and position = %(position)s"
                " order by id desc limit 1)",
                {"request_id": request_id, "position": position, "price": price},
            )
            return True

    def live_errors(self) -> list[dict[str, Any]]:
        """Of each model version, by the last true prices: model_version, count, mae, median_ape, coverage (or null)."""
        with self._connect() as connection:
            return connection.execute("select * from ledger.live_errors order by 1").fetchall()

    def forget(self, days: int, most: int = 20_000) -> int:
        """Forget predictions, with the feedback on them, and compared prices that are older than `days`.

        Nothing while another one is at it.

        Returns:
            how many, up to `most`, of the kind of which there were more.
        """
        with self._connect() as connection:
            row = connection.execute(
                "select greatest(ledger.forget_predictions(%(days)s, %(most)s),"
                " ledger.forget_shadow_prices(%(days)s, %(most)s)) as gone",
                {"days": days, "most": most},
            ).fetchone()
            return int(row["gone"]) if row else 0

    # -- prices of a challenger beside the champion's

    def add_shadow_prices(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Store rows of `SHADOW_PRICE`, all or none; told twice, they are there twice."""
        with (
            self._connect() as connection,
            connection.cursor().copy(f"copy ledger.shadow_prices ({SHADOW_PRICE}) from stdin") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    # -- for people

    def champions(self) -> list[dict[str, Any]]:
        """Every move of the champion's alias, in order: version, before, kind, reason, run, at."""
        with self._connect() as connection:
            rows = connection.execute(
                "select version, before, kind, reason, run, at from ledger.champions order by id"
            ).fetchall()
        return [{**row, "at": row["at"].isoformat(timespec="seconds")} for row in rows]

    def transitions(self, number: int) -> list[dict[str, Any]]:
        """Every step of a batch number's contents, in order: sha256, state, run, at."""
        with self._connect() as connection:
            return connection.execute(
                "select sha256, state, run, at from ledger.transitions where batch_number = %s order by id", [number]
            ).fetchall()

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

    def __init__(self, connection: Connection, run: str) -> None:
        self._connection = connection
        self._run = run

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        yield self._connection


_HISTORY = """
select b.batch_number, left(b.sha256, 12) as sha256, b.state, b.rows, b.valid, b.quarantined, b.quarantine,
       b.rows - b.valid - b.quarantined as duplicates, b.received_at, d.decision, d.reason, d.evidence, d.decided_at,
       t.run_id, t.rows as training_rows, t.metrics as training_metrics, t.trained_at,
       p.version, p.promoted, p.reason as verdict, p.champion, p.metrics as holdout_metrics, p.decided_at as verdict_at
from ledger.batches b
left join ledger.decisions d using (batch_number, sha256)
left join ledger.trainings t using (batch_number)
left join ledger.promotions p using (run_id)
order by b.received_at, t.trained_at
"""
