"""The bundles that the pipeline trained and made the champion, by the sha256 of their manifest.

MLflow's tags do not prove that a bundle is the platform's own: everyone who may write to MLflow can set them. The
pipeline writes these hashes with its own role; the predictor's role can only read them. A row of an earlier release has
no hash until `record_hashes`.
"""

from __future__ import annotations

from collections.abc import Mapping

from core.ledger.connection import Database


class Trust(Database):
    """Reads and completes the hashes. `Trainings.add_training` and `Trainings.add_move` write those of new rows."""

    def is_champion(self, version: str, sha256: str) -> bool:
        """Whether the pipeline made this bundle the champion, as this version, in a promotion or a rollback.

        An earlier release recorded no hash. The last champion of such a release may have any hash until
        `record_hashes`, so that predictors can start after an upgrade. Works with the schema of that release, too.
        """
        with self._connect() as connection:
            row = connection.execute(
                "select coalesce(bool_or(hash = %(sha256)s or (hash is null and last)), false) as trusted"
                " from (select version, to_jsonb(c) ->> 'manifest_sha256' as hash, id = max(id) over () as last"
                " from ledger.champions c) moves where version = %(version)s and %(sha256)s <> ''",
                {"version": version, "sha256": sha256},
            ).fetchone()
            return bool(row and row["trusted"])

    def is_trained(self, sha256: str) -> bool:
        """Whether the pipeline trained this bundle, whatever the verdict on it was."""
        with self._connect() as connection:
            row = connection.execute(
                "select 1 from ledger.trainings t"
                " where to_jsonb(t) ->> 'manifest_sha256' = %(sha256)s and %(sha256)s <> '' limit 1",
                {"sha256": sha256},
            ).fetchone()
            return row is not None

    def last_champion(self) -> tuple[str, str] | None:
        """The version that became the champion last, and the MLflow run of its training; None if there is none.

        Also None after an upgrade from a release without hashes, until `record_hashes`.
        """
        with self._connect() as connection:
            row = connection.execute(
                "select c.version, t.run_id from ledger.champions c join ledger.trainings t using (manifest_sha256)"
                " left join ledger.promotions p on p.run_id = t.run_id and p.version = c.version"
                " where c.id = (select max(id) from ledger.champions)"
                " order by p.version is null, t.trained_at desc limit 1"
            ).fetchone()
            return (row["version"], row["run_id"]) if row else None

    def trainings_without_hash(self) -> list[str]:
        """MLflow runs of the trainings of an earlier release whose hash is not recorded yet."""
        with self._connect() as connection:
            rows = connection.execute("select run_id from ledger.trainings where manifest_sha256 is null").fetchall()
            return [str(row["run_id"]) for row in rows]

    def record_hashes(self, hashes: Mapping[str, str]) -> None:
        """Record the hashes of trainings, by MLflow run, and of the champions from them. Changes no recorded hash."""
        with self._connect() as connection:
            for run_id, sha256 in hashes.items():
                connection.execute(
                    "update ledger.trainings set manifest_sha256 = %s where run_id = %s and manifest_sha256 is null",
                    [sha256, run_id],
                )
            connection.execute(
                "update ledger.champions c set manifest_sha256 = coalesce((select t.manifest_sha256"
                " from ledger.promotions p join ledger.trainings t using (run_id)"
                " where p.version = c.version order by p.decided_at desc limit 1), '')"
                " where manifest_sha256 is null"
                " and not exists (select from ledger.trainings where manifest_sha256 is null)"
            )
