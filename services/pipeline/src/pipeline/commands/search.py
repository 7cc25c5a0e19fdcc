"""Search for better hyperparameters, and print the values to set.

Example: `python -m pipeline search --trials 30`. The search uses the clean rows of all batches. Trials that an earlier
search finished count.
"""

from __future__ import annotations

import json

from core.errors import DataError
from core.settings import chart_key
from pipeline.context import Context
from pipeline.outcome import Outcome
from pipeline.training import search


class SearchOutcome(Outcome):
    """The best settings, named as in the chart's values."""

    settings: dict[str, float]


def run(context: Context, trials: str) -> SearchOutcome:
    """Search on the clean rows of all batches; return the best settings, named as in the chart's values.

    Raises:
        DataError: `trials` is not a positive number, or there are no clean rows.
    """
    batches = context.ledger.trainable_batches()
    if not trials.isdecimal() or int(trials) < 1:
        raise DataError(f"--trials is {trials!r}, but must be a whole number of at least 1.")
    if not batches:
        raise DataError("There are no clean rows to search on. Run fetch, validate, split and decide first.")
    best = search.best_settings(context, batches, int(trials))
    settings = {chart_key(name): getattr(best, name) for name in search.SPACE}
    return {"settings": settings, "summary": f"set in airflow.pipeline.config: {json.dumps(settings)}"}
