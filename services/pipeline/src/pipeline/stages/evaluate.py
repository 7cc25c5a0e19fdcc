"""Stage 6: compare challenger and champion on one holdout, the test splits of all batches so far, and judge."""

from __future__ import annotations

from typing import Literal

from core.errors import BundleError
from pipeline import rows
from pipeline.context import Context
from pipeline.evaluation.comparison import compare, still_valid
from pipeline.evaluation.gate import judge
from pipeline.evaluation.record import Evaluation, Scores
from pipeline.outcome import Outcome
from pipeline.tracking import Tracking
from pipeline.trust import champion_bundle, checked_bundle


class EvaluateOutcome(Outcome):
    """Scores and verdict. `next` chooses the following stage."""

    challenger: Scores
    champion: Scores | None
    promoted: bool
    reason: str
    next: Literal["promote", "reject"]


def run(context: Context, run_id: str) -> EvaluateOutcome:
    """Judge the model of a run, and log evaluation and verdict as an artifact of that run.

    An earlier evaluation stands until another batch or another champion comes. Once promote or reject carried it out,
    it stands for good.
    """
    tracking = Tracking(context.settings, context.registry)
    champion = context.champion
    batches = context.ledger.trainable_batches()
    earlier = tracking.find_evaluation(run_id)
    if (
        earlier
        and "promoted" in earlier
        and (context.ledger.promotion(run_id) or still_valid(earlier, run_id, champion, batches))
    ):
        return _result(earlier)
    challenger = checked_bundle(context, tracking, run_id)
    version, unusable, bundle = None, None, None
    if champion and champion.run_id != run_id:
        version = champion.version
        try:
            bundle = champion_bundle(context, champion)
        except BundleError as error:  # predictors refuse it, so there is nothing to compare with
            unusable = str(error)
    holdout = rows.defer_split(context.store, batches, "test", rows.read_batch)
    evaluation = compare(holdout, batches, challenger, bundle, context.settings)
    evaluation["champion_version"], evaluation["champion_unusable"] = version, unusable
    evaluation["promoted"], evaluation["reason"] = judge(evaluation, context.settings)
    tracking.log_evaluation(run_id, evaluation)
    return _result(evaluation)


def _result(evaluation: Evaluation) -> EvaluateOutcome:
    outcome = "wins" if evaluation["promoted"] else "loses"
    return {
        "challenger": evaluation["challenger"],
        "champion": evaluation["champion"],
        "promoted": evaluation["promoted"],
        "reason": evaluation["reason"],
        "next": "promote" if evaluation["promoted"] else "reject",
        "summary": f"on {evaluation['rows']:,} rows the challenger {outcome}: {evaluation['reason']}",
    }
