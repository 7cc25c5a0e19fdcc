"""Stores true prices of houses that were priced before, in the ledger."""

from __future__ import annotations

from core.errors import RefusedRowsError
from core.ledger import Ledger
from predictor.errors import InvalidBodyError, UnknownPredictionError
from predictor.record.history import TIMEOUT_SECONDS


class FeedbackStore:
    """Adds feedback to the ledger."""

    def __init__(self, dsn: str) -> None:
        self._ledger = Ledger(dsn, connect_timeout=TIMEOUT_SECONDS, statement_timeout=TIMEOUT_SECONDS)

    def add(self, request_id: str, position: int, price: float) -> None:
        """Store the true price of a prediction, in US dollars. A later price replaces an earlier one; idempotent.

        Raises:
            UnknownPredictionError: the log has no price for this request and position.
            InvalidBodyError: the ledger's own rules refuse the values. They may be stricter than the rules of this code
                while the schema is of a newer release.
            LedgerError: the database did not answer.
        """
        try:
            stored = self._ledger.add_feedback(request_id, position, price)
        except RefusedRowsError as error:
            raise InvalidBodyError([{"loc": ["body"], "msg": str(error), "type": "refused_by_ledger"}]) from error
        if not stored:
            raise UnknownPredictionError(
                f"no price of request {request_id} at position {position} is in the log. Three causes are possible: "
                "predictions are logged some seconds after the answer (try again), old ones were deleted (see "
                "predictionLogRetentionDays), or the request got no price"
            )
