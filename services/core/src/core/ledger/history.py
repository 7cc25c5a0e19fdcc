"""Views of the ledger for people: all batches with their outcomes, and the moves of the champion's alias."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypedDict, cast

from core.ledger.connection import Database
from core.ledger.decisions import DecisionEvidence
from core.ledger.trainings import HoldoutScores

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


class HistoryRow(TypedDict):
    """A batch with its decision, training and verdict; their fields are None if there is none yet.

    A batch that caused several trainings has several rows. Times are in ISO 8601.
    """

    batch_number: int
    sha256: str  # first twelve characters
    state: str
    rows: int
    valid: int | None
    quarantined: int | None
    quarantine: dict[str, int] | None  # rows per rule
    duplicates: int | None
    received_at: str
    decision: Literal["train", "skip"] | None
    reason: str | None
    evidence: DecisionEvidence | None
    decided_at: str | None
    run_id: str | None  # MLflow run of the training
    training_rows: int | None
    training_metrics: dict[str, dict[str, float]] | None  # scores per split
    trained_at: str | None
    version: str | None
    promoted: bool | None
    verdict: str | None  # its reason
    champion: str | None  # version that it was compared with
    holdout_metrics: HoldoutScores | None
    verdict_at: str | None


class TransitionRow(TypedDict):
    """A state that a content of a batch entered."""

    sha256: str
    state: str
    run: str | None  # DAG run that made it; None if an earlier release did not record it
    at: datetime


class ChampionRow(TypedDict):
    """A move of the champion's alias from version `before` to `version`."""

    version: str
    before: str | None  # None for the first champion
    kind: Literal["promotion", "rollback"]
    reason: str
    run: str | None  # as in `TransitionRow`
    at: str  # ISO 8601


class History(Database):
    """Reads views of the ledger."""

    def history(self) -> list[HistoryRow]:
        """All batches in the order of their arrival, each with its decision, training and verdict (or null)."""
        with self._connect() as connection:
            rows = connection.execute(_HISTORY).fetchall()
        for row in rows:
            for name in ("received_at", "decided_at", "trained_at", "verdict_at"):
                row[name] = row[name].isoformat(timespec="seconds") if row[name] else None
        return cast("list[HistoryRow]", rows)

    def transitions(self, number: int) -> list[TransitionRow]:
        """Every state that the contents of a batch number entered, in order."""
        with self._connect() as connection:
            rows = connection.execute(
                "select sha256, state, run, at from ledger.transitions where batch_number = %s order by id", [number]
            ).fetchall()
        return cast("list[TransitionRow]", rows)

    def last_backups(self) -> dict[str, float]:
        """Unix time of the last finished backup of each kind: `full`, `wal`. A kind without a backup is missing."""
        with self._connect() as connection:
            rows = connection.execute(
                "select kind, extract(epoch from max(finished_at))::double precision as at from ledger.backups"
                " group by kind"
            ).fetchall()
        return {row["kind"]: row["at"] for row in rows}

    def champions(self) -> list[ChampionRow]:
        """Every move of the champion's alias, in order, without who made it: the price service needs no login."""
        with self._connect() as connection:
            rows = connection.execute(
                "select version, before, kind, reason, run, at from ledger.champions order by id"
            ).fetchall()
        for row in rows:
            row["at"] = row["at"].isoformat(timespec="seconds")
        return cast("list[ChampionRow]", rows)
