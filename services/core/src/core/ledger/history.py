"""Views of the ledger for people: all batches with their outcomes, and the moves of the champion's alias."""

from __future__ import annotations

from typing import Any

from core.ledger.connection import Database

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


class History(Database):
    """Reads views of the ledger."""

    def history(self) -> list[dict[str, Any]]:
        """All batches in the order of their arrival, each with its decision, training and verdict (or null)."""
        with self._connect() as connection:
            rows = connection.execute(_HISTORY).fetchall()
        for row in rows:
            for name in ("received_at", "decided_at", "trained_at", "verdict_at"):
                row[name] = row[name].isoformat(timespec="seconds") if row[name] else None
        return rows

    def transitions(self, number: int) -> list[dict[str, Any]]:
        """Every state that the contents of a batch number entered, in order: sha256, state, run, at."""
        with self._connect() as connection:
            return connection.execute(
                "select sha256, state, run, at from ledger.transitions where batch_number = %s order by id", [number]
            ).fetchall()

    def last_backups(self) -> dict[str, float]:
        """Unix time of the last finished backup of each kind: `full`, `wal`. A kind without a backup is missing."""
        with self._connect() as connection:
            rows = connection.execute(
                "select kind, extract(epoch from max(finished_at))::double precision as at from ledger.backups"
                " group by kind"
            ).fetchall()
        return {row["kind"]: row["at"] for row in rows}

    def champions(self) -> list[dict[str, Any]]:
        """Every move of the champion's alias, in order: version, before, kind, reason, run, at."""
        with self._connect() as connection:
            rows = connection.execute(
                "select version, before, kind, reason, run, at from ledger.champions order by id"
            ).fetchall()
        return [{**row, "at": row["at"].isoformat(timespec="seconds")} for row in rows]
