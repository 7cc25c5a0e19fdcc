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

    def begin_recovery(self, gaps: list[int]) -> bool:
        """Whether to restart the data API to fill these gaps: once for each set of gaps.

        The answer stays True until `note_restart`, so that a run that crashes in between can try again.
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
        """Record that the data API starts again at its first batch, to fill these gaps."""
        with self._connect() as connection:
            connection.execute(
                "update ledger.recoveries set restarted_at = now() where gaps = %s::integer[]", [sorted(gaps)]
            )
            connection.execute("insert into ledger.calls (outcome, run) values ('restart', %s)", [self._run])
