"""Calls of the data API: their outcomes, lost answers, and restarts that recover lost batches."""

from __future__ import annotations

from core.ledger.batches import USABLE, Batches
from core.ledger.connection import Connection

# SQL: the number of the last batch that was received; -1 after a restart
_LAST_RECEIVED = (
    "select case outcome when 'batch' then batch_number else -1 end as number"
    " from ledger.calls where outcome in ('batch', 'restart') order by id desc limit 1"
)
# SQL: whether an answer was lost after the last batch that was received
_LOST_SINCE = (
    "select 'lost' = (select outcome from ledger.calls where outcome in ('batch', 'lost') order by id desc limit 1)"
)
# SQL: the calls since the last restart
_SINCE_RESTART = (
    "with last_restart as (select max(id) as id from ledger.calls where outcome = 'restart'),"
    " pass as (select * from ledger.calls where id > coalesce((select id from last_restart), 0))"
)


class Calls(Batches):
    """Reads and writes calls of the data API. `Batches.receive` records the outcome of a call that returned a batch."""

    def note_call(self) -> None:
        """Record that the data API is about to be called. An earlier call without outcome counts as lost."""
        with self._connect() as connection:
            self._lose(connection)
            connection.execute("insert into ledger.calls (outcome, run) values ('asked', %s)", [self._run])

    def note_refused(self) -> None:
        """Record that the data API refused the call, so its cursor did not move."""
        with self._connect() as connection:
            connection.execute("update ledger.calls set outcome = 'refused' where outcome = 'asked'")

    def note_lost(self) -> None:
        """Record that an answer of the data API was lost: the batch after the last one may never be sent again."""
        with self._connect() as connection:
            self._lose(connection)

    def _lose(self, connection: Connection) -> None:
        lost = connection.execute("update ledger.calls set outcome = 'lost' where outcome = 'asked'")
        if lost.rowcount:
            connection.execute(
                "insert into ledger.gaps (batch_number)"  # noqa: S608 - constants
                f" select n from (select coalesce(({_LAST_RECEIVED}), -1) + 1 as n) next"
                f" where not exists ({USABLE.format('n')}) on conflict do nothing"
            )

    def note_end(self) -> list[int]:
        """Record that the data API has no more batches.

        If the end follows a batch and no answer was lost in between, gaps after that batch are wrong and are deleted.

        Returns:
            the numbers that have no usable content.
        """
        with self._connect() as connection:
            connection.execute("update ledger.calls set outcome = 'end' where outcome = 'asked'")
            last = connection.execute(_LAST_RECEIVED).fetchone()
            if last and last["number"] >= 0:
                connection.execute(
                    f"delete from ledger.gaps where batch_number > %s and not ({_LOST_SINCE})",  # noqa: S608 - constant
                    [last["number"]],
                )
                self._note_gaps(connection, last["number"] + 1)
        return self.gaps()

    def needs_restart(self) -> bool:
        """Whether a restart of the data API may fill gaps, asked at the end of the data.

        False if the calls since the last restart were a complete pass: every answer arrived and was stored, whatever
        the verdict on its rows. Then the data API does not have the missing batches, and another pass changes nothing.
        """
        with self._connect() as connection:
            row = connection.execute(
                f"{_SINCE_RESTART} select (select id from last_restart) is null or exists ("  # noqa: S608 - constants
                " select from pass where outcome = 'lost' or (outcome = 'batch' and not exists ("
                " select from ledger.batches b where b.batch_number = pass.batch_number and b.state <> 'received')))"
                " as needed"
            ).fetchone()
            return row is not None and bool(row["needed"])

    def ended_before(self) -> bool:
        """Whether an earlier run met the end of the data since the last restart of the data API."""
        with self._connect() as connection:
            row = connection.execute(
                f"{_SINCE_RESTART} select exists (select from pass where outcome = 'end' and run <> %s) as ended",  # noqa: S608 - constants
                [self._run],
            ).fetchone()
            return row is not None and bool(row["ended"])

    def note_restart(self) -> None:
        """Record that the data API starts again at its first batch."""
        with self._connect() as connection:
            connection.execute("insert into ledger.calls (outcome, run) values ('restart', %s)", [self._run])
