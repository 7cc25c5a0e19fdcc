"""Stage 4: decide whether the batch is worth a training, with evidence and a reason.

The stage compares the new rows with those that the champion was trained on, as profiles, and lets the champion price
them. `pipeline.decision.policy` has the rules.
"""

from __future__ import annotations

from typing import Literal

from core.errors import BundleError, MissingModelError
from core.ledger.decisions import Decision
from pipeline import lost_champion, rows
from pipeline.context import Context
from pipeline.decision import policy
from pipeline.decision.document import full_document, ledger_document
from pipeline.decision.evidence import gather
from pipeline.outcome import Outcome
from pipeline.reports import decision_page
from pipeline.tracking import DECISION, Tracking
from pipeline.trust import record_hashes


class DecideOutcome(Outcome):
    """The decision. `next` chooses the following stage."""

    decision: str
    reason: str
    next: Literal["train", "skip"]


def run(context: Context, batch: int) -> DecideOutcome:
    """Decide on a batch. A decision is made once per content: a second call returns the one in the ledger.

    Raises:
        RegistryError: MLflow does not answer.
    """
    entry = context.ledger.batch(batch)
    decided = context.ledger.decision(entry)
    if decided is None:
        decided = _decide(context, batch)
    answer, reason = decided
    return {"decision": answer, "reason": reason, "next": answer, "summary": f"{answer}: {reason}"}


def _decide(context: Context, batch: int) -> Decision:
    """Make the decision, log it to MLflow, and note it in the ledger."""
    record_hashes(context)  # after an upgrade: before anything else uses a bundle
    _restore_champion(context)
    entry = context.ledger.batch(batch)
    tracking = Tracking(context.settings, context.registry)
    evidence = gather(context, tracking, batch)
    decision = policy.decide(evidence, context.settings)
    document = full_document(evidence, decision, context.settings)
    tags = {"stage": "decide", "batch": str(batch), "sha256": entry.sha256, "dag_run": context.dag_run}
    tags |= {"decision": decision.answer, "reason": decision.reason, "code_version": context.code_version}
    texts = {f"{DECISION}.html": decision_page.render(document)} | rows.reports(context.store, batch)
    run_id = tracking.log_decision(f"batch-{batch:04d}-decision", tags, document, texts)
    context.ledger.decide(entry, decision.answer, decision.reason, ledger_document(document, run_id))
    return decision


def _restore_champion(context: Context) -> None:
    """Give MLflow its champion back. If that is impossible, this batch is decided on as if there had been none."""
    try:
        restored = lost_champion.restore(context)
    except (MissingModelError, BundleError) as lost:
        restored = f"MLflow has no champion, and the last one cannot be restored: {lost}"
    if restored:
        print(restored, flush=True)
