"""Decisions on batches: `train` or `skip`, each with its reason and evidence."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypedDict

from psycopg.types.json import Jsonb

from core.ledger.batches import Batch, Batches
from core.ledger.connection import Connection


class Decision(NamedTuple):
    """The answer for a batch, and the sentence that gives the reason."""

    answer: Literal["train", "skip"]
    reason: str


class DecisionEvidence(TypedDict, total=False):
    """The part of a decision's evidence that the ledger's readers need. `pipeline.decision.document` has all fields."""

    run_id: str  # MLflow run with the full evidence


class Decisions(Batches):
    """Reads and writes decisions. The first decision on a batch's content is final."""

    def decide(self, batch: Batch, decision: str, reason: str, evidence: DecisionEvidence) -> None:
        """Record a decision; does nothing if the batch's content has one."""
        with self._connect() as connection:
            self._decide(connection, batch, decision, reason, evidence)

    def refuse(self, batch: Batch, reason: str) -> None:
        """Quarantine a batch as a whole: its number becomes a gap, and the next run fetches the next batch."""
        with self._connect() as connection:
            if self._advance(connection, batch, "quarantined"):
                self._count(connection, batch, 0, 0, {"refused": batch.rows})
            self._note_gaps(connection, batch.batch_number + 1)
            self._decide(connection, batch, "skip", reason, {})

    def decision(self, batch: Batch) -> Decision | None:
        """Decision and reason on a batch's content."""
        with self._connect() as connection:
            row = connection.execute(
                "select decision, reason from ledger.decisions where batch_number = %s and sha256 = %s",
                [batch.batch_number, batch.sha256],
            ).fetchone()
            return Decision(row["decision"], row["reason"]) if row else None

    def _decide(
        self, connection: Connection, batch: Batch, decision: str, reason: str, evidence: DecisionEvidence
    ) -> None:
        connection.execute(
            "insert into ledger.decisions (batch_number, sha256, decision, reason, evidence)"
            " values (%s, %s, %s, %s, %s) on conflict do nothing",
            [batch.batch_number, batch.sha256, decision, reason, Jsonb(evidence)],
        )
