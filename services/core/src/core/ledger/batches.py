"""Batches: their contents, states and row counts, and the gaps in their numbers."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg.types.json import Jsonb

from core.errors import LedgerError
from core.ledger.connection import Connection, Database


@dataclass(frozen=True)
class Batch:
    """The content of a batch. `rows` = `valid` + `quarantined` + `duplicates`; all three are None before validation."""

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
# A batch number can have several contents. The one in use does not depend on the order in which they were received: it
# is the longest one that is not quarantined as a whole.
_IN_USE_FIRST = "order by (state = 'quarantined')::integer, rows desc, sha256 limit 1"
# Runs that resume the training of one batch. After them, a batch that cannot be trained no longer blocks the others.
MAX_RESUMPTIONS = 3
# SQL: selects a content of batch number {} that has rows to use
USABLE = "select from ledger.batches b where b.batch_number = {} and b.state not in ('received', 'quarantined')"


class Batches(Database):
    """Reads and writes batches. States never go back, and each state is entered once."""

    def receive(self, number: int, sha256: str, rows: int, raw_key: str) -> Batch:
        """Record the batch that the last call of the data API returned. A content that is known stays as it is."""
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
                f"select {_BATCH} from ledger.batches where batch_number = %s and sha256 = %s",  # noqa: S608 - constant
                [number, sha256],
            ).fetchone()
            assert row is not None  # noqa: S101 - it was inserted now or earlier, and rows are never deleted
            batch = Batch(**row)
            if new:
                self._note_transition(connection, batch, "received")
            return batch

    def set_stored(self, batch: Batch) -> list[int]:
        """Record that the raw rows are stored.

        Returns:
            the numbers below this batch's number that have no usable content.
        """
        with self._connect() as connection:
            self._advance(connection, batch, "stored")
            return self._note_gaps(connection, batch.batch_number)

    def set_validated(self, batch: Batch, valid: int, duplicates: int, quarantine: dict[str, int]) -> None:
        """Record the numbers of valid rows, of duplicates, and of quarantined rows per rule.

        Raises:
            LedgerError: the counts do not add up to the rows received.
        """
        with self._connect() as connection:
            self._count(connection, batch, valid, duplicates, quarantine)
            self._advance(connection, batch, "validated")

    def set_split(self, batch: Batch) -> None:
        """Record that the clean splits are stored."""
        with self._connect() as connection:
            self._advance(connection, batch, "split")

    def batch(self, number: int) -> Batch:
        """The content in use of a batch number: the longest one that is not quarantined as a whole.

        Raises:
            LedgerError: no content of this number was stored.
        """
        with self._connect() as connection:
            row = connection.execute(
                f"select {_BATCH} from ledger.batches where batch_number = %s and state <> 'received' {_IN_USE_FIRST}",  # noqa: S608 - constants
                [number],
            ).fetchone()
        if row is None:
            raise LedgerError(f"batch {number} is not in the ledger: run fetch first")
        return Batch(**row)

    def unfinished(self) -> Batch | None:
        """The oldest batch that is stored and has no decision, because an earlier run was interrupted."""
        with self._connect() as connection:
            row = connection.execute(
                f"select {_BATCH} from ledger.batches b where state in ('stored', 'validated', 'split')"  # noqa: S608 - constant
                " and not exists (select from ledger.decisions d"
                " where (d.batch_number, d.sha256) = (b.batch_number, b.sha256)) order by received_at limit 1"
            ).fetchone()
            return Batch(**row) if row else None

    def unjudged(self) -> Batch | None:
        """The oldest batch that was decided to be trained, and that no training with a verdict has used.

        An earlier run failed after its decision. A batch that `MAX_RESUMPTIONS` runs have resumed is left out: its rows
        are part of the next training.
        """
        with self._connect() as connection:
            row = connection.execute(
                f"select {_BATCH} from ledger.batches b join ledger.decisions d using (batch_number, sha256)"  # noqa: S608 - constants
                " where d.decision = 'train' and b.state in ('split', 'used')"
                " and b.sha256 = (select sha256 from ledger.batches o where o.batch_number = b.batch_number"
                f" and o.state <> 'received' {_IN_USE_FIRST})"
                " and not exists (select from ledger.trainings t join ledger.promotions p using (run_id)"
                " where b.batch_number = any (t.batches))"
                " and (select count(distinct run) from ledger.resumptions r"
                " where (r.batch_number, r.sha256) = (b.batch_number, b.sha256) and r.run <> %s) < %s"
                " order by b.received_at limit 1",
                [self._run, MAX_RESUMPTIONS],
            ).fetchone()
            return Batch(**row) if row else None

    def note_resumption(self, batch: Batch) -> None:
        """Record that this run resumes a batch which was decided to be trained."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.resumptions (batch_number, sha256, run) values (%s, %s, %s)",
                [batch.batch_number, batch.sha256, self._run],
            )

    def trainable_batches(self) -> list[int]:
        """Numbers of the batches that have clean splits, ascending, whether a training used them or not."""
        with self._connect() as connection:
            rows = connection.execute(
                "select distinct batch_number from ledger.batches where state in ('split', 'used') order by 1"
            ).fetchall()
            return [int(row["batch_number"]) for row in rows]

    def untrained_batches(self) -> list[int]:
        """Numbers of the batches whose clean splits no finished training has used, ascending."""
        with self._connect() as connection:
            rows = connection.execute(
                "select distinct batch_number from ledger.batches where state = 'split' order by 1"
            ).fetchall()
            return [int(row["batch_number"]) for row in rows]

    def raw_keys(self) -> set[str]:
        """Keys of the raw rows of all batches, stored or not."""
        with self._connect() as connection:
            return {str(row["raw_key"]) for row in connection.execute("select raw_key from ledger.batches").fetchall()}

    def gaps(self) -> list[int]:
        """Numbers of batches that have no usable content, ascending."""
        with self._connect() as connection:
            rows = connection.execute("select batch_number from ledger.gaps order by 1").fetchall()
            return [int(row["batch_number"]) for row in rows]

    def _count(
        self, connection: Connection, batch: Batch, valid: int, duplicates: int, quarantine: dict[str, int]
    ) -> None:
        connection.execute(
            "update ledger.batches set valid = %s, quarantined = %s, duplicates = %s, quarantine = %s"
            " where batch_number = %s and sha256 = %s",
            [valid, sum(quarantine.values()), duplicates, Jsonb(quarantine), batch.batch_number, batch.sha256],
        )

    def _advance(self, connection: Connection, batch: Batch, state: str) -> bool:
        """Move a batch to a state and return True; do nothing if the batch is in this state or a later one."""
        moved = connection.execute(
            "update ledger.batches set state = %s where batch_number = %s and sha256 = %s"
            " and state < %s::ledger.batch_state",
            [state, batch.batch_number, batch.sha256, state],
        )
        if moved.rowcount:
            self._note_transition(connection, batch, state)
        return bool(moved.rowcount)

    def _set_used(self, connection: Connection, number: int) -> None:
        """Move the content in use of a batch number from `split` to `used`."""
        row = connection.execute(
            f"select {_BATCH} from ledger.batches where batch_number = %s and state = 'split' {_IN_USE_FIRST}",  # noqa: S608 - constants
            [number],
        ).fetchone()
        if row:
            self._advance(connection, Batch(**row), "used")

    def _note_transition(self, connection: Connection, batch: Batch, state: str) -> None:
        connection.execute(
            "insert into ledger.transitions (batch_number, sha256, state, run) values (%s, %s, %s, %s)",
            [batch.batch_number, batch.sha256, state, self._run],
        )

    def _note_gaps(self, connection: Connection, below: int) -> list[int]:
        """Record the numbers below this one that have no usable content, and return them.

        Gaps that have a usable content by now are deleted.
        """
        connection.execute(f"delete from ledger.gaps g where exists ({USABLE.format('g.batch_number')})")  # noqa: S608 - constant
        missing = connection.execute(
            "insert into ledger.gaps (batch_number)"  # noqa: S608 - constant
            f" select n from generate_series(0, %s - 1) n where not exists ({USABLE.format('n')})"
            " on conflict (batch_number) do update set noticed_at = gaps.noticed_at returning batch_number as n",
            [below],
        ).fetchall()
        return sorted(int(row["n"]) for row in missing)
