"""Trainings, the verdicts on them, and the moves of the champion's alias."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypedDict, cast

from psycopg.types.json import Jsonb

from core.ledger.batches import Batches


class HoldoutScores(TypedDict):
    """Scores of both models on the common holdout, by name. Without a champion that can serve, its scores are None."""

    challenger: dict[str, float]
    champion: dict[str, float] | None


class TrainingRow(TypedDict):
    """A finished training."""

    run_id: str  # MLflow run
    batch_number: int  # batch that caused it
    batches: list[int]  # all batches whose rows it used
    rows: int  # of the split train
    code_version: str
    metrics: dict[str, dict[str, float]]  # scores per split
    trained_at: datetime
    manifest_sha256: str | None  # of the bundle; None: an earlier release trained it, see `core.ledger.trust`


class PromotionRow(TypedDict):
    """The verdict on a training."""

    run_id: str  # MLflow run of the training
    version: str  # registered version of its model
    promoted: bool
    reason: str
    champion: str | None  # version that it was compared with
    metrics: HoldoutScores
    decided_at: datetime


class Trainings(Batches):
    """Reads and writes trainings, keyed by MLflow run."""

    def add_training(
        self,
        run_id: str,
        batch_number: int,
        batches: list[int],
        rows: int,
        code_version: str,
        metrics: Mapping[str, Mapping[str, float]],
        manifest_sha256: str,
    ) -> None:
        """Record a finished training with the hash of its bundle. Its batches move to the state `used`."""
        with self._connect() as connection:
            for number in batches:
                self._set_used(connection, number)
            connection.execute(
                "insert into ledger.trainings"
                " (run_id, batch_number, batches, rows, code_version, metrics, manifest_sha256)"
                " values (%s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
                [run_id, batch_number, batches, rows, code_version, Jsonb(metrics), manifest_sha256],
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

    def training(self, run_id: str) -> TrainingRow | None:
        """The finished training of an MLflow run."""
        with self._connect() as connection:
            row = connection.execute("select * from ledger.trainings where run_id = %s", [run_id]).fetchone()
            return cast("TrainingRow | None", row)

    def add_promotion(
        self, run_id: str, version: str, promoted: bool, reason: str, champion: str | None, metrics: HoldoutScores
    ) -> None:
        """Record the verdict on a training: promoted or rejected. The first verdict is final."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.promotions (run_id, version, promoted, reason, champion, metrics)"
                " values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
                [run_id, version, promoted, reason, champion, Jsonb(metrics)],
            )

    def promotion(self, run_id: str) -> PromotionRow | None:
        """The verdict on a training."""
        with self._connect() as connection:
            row = connection.execute("select * from ledger.promotions where run_id = %s", [run_id]).fetchone()
            return cast("PromotionRow | None", row)

    def expired_models(self, days: int, champions: int) -> list[str]:
        """MLflow runs with a verdict older than `days`, except those of the last `champions` versions in service.

        A version that became the champion again within `days` is not expired either. Oldest verdict first.
        """
        with self._connect() as connection:
            rows = connection.execute(
                "with last as (select version from ledger.champions group by version order by max(id) desc limit %s)"
                " select run_id from ledger.promotions p where decided_at < now() - make_interval(days => %s)"
                " and version not in (select version from last)"
                " and not exists (select from ledger.champions c where p.version in (c.version, c.before)"
                " and c.at >= now() - make_interval(days => %s)) order by decided_at",
                [champions, days, days],
            ).fetchall()
            return [str(row["run_id"]) for row in rows]

    def add_move(self, version: str, before: str | None, kind: str, reason: str, manifest_sha256: str) -> None:
        """Record that the champion's alias moves from version `before` to `version`, with the run and who started it.

        `kind` is `promotion` or `rollback`. Predictors serve the version only with this hash.
        """
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.champions (version, before, kind, reason, run, actor, manifest_sha256)"
                " values (%s, %s, %s, %s, %s, %s, %s)",
                [version, before, kind, reason, self._run, self._actor, manifest_sha256],
            )

    def add_challenger(self, version: str | None, before: str | None) -> None:
        """Record that the challenger's alias moves from version `before` to `version`, with the run and its starter."""
        with self._connect() as connection:
            connection.execute(
                "insert into ledger.challengers (version, before, run, actor) values (%s, %s, %s, %s)",
                [version, before, self._run, self._actor],
            )
