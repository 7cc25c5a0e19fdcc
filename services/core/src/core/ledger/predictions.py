"""The prediction log: served prices, feedback on them, shadow prices, and their retention."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypedDict, cast
from uuid import UUID

from core.ledger.connection import Database

# columns of a row of `add_predictions`, in order
PREDICTION = "at, request_id, position, listing, price, low, high, model_version, status, error, seconds"
# columns of a row of `add_shadow_prices`, in order
SHADOW_PRICE = "at, request_id, position, champion_version, champion_price, challenger_version, challenger_price"


class LiveErrorRow(TypedDict):
    """Errors of a model version, from the last valid true prices."""

    model_version: str
    count: int  # listings with a true price
    mae: float  # dollars
    median_ape: float  # fraction of the true price
    coverage: float | None  # share of the true prices in their intervals; None without prediction intervals


class InvalidPricesRow(TypedDict):
    """Number of rows of a table whose prices are beyond their limits. No view counts these rows."""

    source: str  # table of the ledger
    count: int


class Predictions(Database):
    """Reads and writes the prediction log."""

    def add_predictions(self, batch: UUID, rows: Iterable[tuple[Any, ...]]) -> None:
        """Store the rows of a batch, all or none. Idempotent: a batch that is stored stays as it is.

        Args:
            batch: a new id for these rows.
            rows: columns as in `PREDICTION`; `at` in ISO 8601, `listing` as JSON text.
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
        """Record the true price of a predicted listing. If there are several, the last one counts.

        Returns:
            False if the log holds no predicted price for this request id and position.
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

    def live_errors(self) -> list[LiveErrorRow]:
        """Errors per model version with feedback."""
        with self._connect() as connection:
            rows = connection.execute("select * from ledger.live_errors order by 1").fetchall()
        return cast("list[LiveErrorRow]", rows)

    def invalid_prices(self) -> list[InvalidPricesRow]:
        """Number of rows with a price beyond its limits, per table with prices."""
        with self._connect() as connection:
            rows = connection.execute("select * from ledger.invalid_prices order by 1").fetchall()
        return cast("list[InvalidPricesRow]", rows)

    def add_shadow_prices(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Store rows with the columns of `SHADOW_PRICE`, all or none. A repetition adds the rows again."""
        with (
            self._connect() as connection,
            connection.cursor().copy(f"copy ledger.shadow_prices ({SHADOW_PRICE}) from stdin") as copy,
        ):
            for row in rows:
                copy.write_row(row)

    def check_retention_clock(self) -> None:
        """Check that the database's clock did not jump forward since the last deletion of old rows or objects.

        Raises:
            LedgerError: it did, or nothing was deleted for more than a week. The message has the remedy.
        """
        with self._connect() as connection:
            connection.execute("select ledger.check_retention_clock()")

    def delete_older_than(self, days: int, most: int = 20_000) -> int:
        """Delete predictions, with their feedback, and shadow prices that are older than `days`.

        Deletes up to `most` rows of each kind. Does nothing while another process is deleting.

        Returns:
            the larger of both numbers of deleted rows. There may be more to delete if it equals `most`.
        """
        with self._connect() as connection:
            row = connection.execute(
                "select greatest(ledger.forget_predictions(%(days)s, %(most)s),"
                " ledger.forget_shadow_prices(%(days)s, %(most)s)) as gone",
                {"days": days, "most": most},
            ).fetchone()
            return int(row["gone"]) if row else 0

    def delete_beyond(self, max_bytes: int, most: int = 20_000) -> int:
        """Delete up to `most` of the oldest predictions while the log has more than about `max_bytes`.

        Does nothing while another process is deleting.

        Returns:
            the number of deleted rows. There may be more to delete if it equals `most`.
        """
        with self._connect() as connection:
            row = connection.execute(
                "select ledger.forget_predictions_beyond(%s, %s) as gone", [max_bytes, most]
            ).fetchone()
            return int(row["gone"]) if row else 0
