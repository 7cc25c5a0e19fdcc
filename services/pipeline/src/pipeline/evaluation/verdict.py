"""Carries out the verdict of the gate, once. Stages promote and reject share this code."""

from __future__ import annotations

from core.errors import RegistryError
from core.features.columns import FINGERPRINT
from core.ledger.trainings import HoldoutScores
from pipeline.context import Context
from pipeline.outcome import Outcome
from pipeline.tracking import MODEL_CARD, Tracking, version_tags
from pipeline.trust import checked_bundle


class VerdictOutcome(Outcome):
    """The verdict that was carried out."""

    promoted: bool
    version: str  # registered version of the model
    reason: str


def carry_out(context: Context, run_id: str, promoted: bool) -> VerdictOutcome:
    """Register the model of a run with its verdict. If it won, move the alias `champion` to it.

    Idempotent: a second call changes neither the verdict in the ledger nor a later champion. The alias moves last, in
    one call, within an exclusive transaction of the ledger that also writes the verdict and the hash that predictors
    compare. So an earlier failure leaves ledger and alias unchanged, and the next promoter sees this champion.

    Raises:
        RegistryError: the gate has another verdict or none, MLflow failed, or the champion is not the one that the
            challenger was compared with.
        BundleError: the bundle of the run is damaged, has other features, or is not the one that the training wrote.
    """
    tracking = Tracking(context.settings, context.registry)
    evaluation = tracking.evaluation(run_id)
    if evaluation.get("promoted") is not promoted:
        stage = "promote" if evaluation.get("promoted") else "reject"
        problem = (
            f"the verdict of the gate is {stage}: {evaluation['reason']}"
            if "promoted" in evaluation
            else "the run has no verdict"
        )
        raise RegistryError(f"{problem}; run evaluate again, and then the stage that it names")
    bundle = checked_bundle(context, tracking, run_id)
    bundle.check_golden()
    tags = origin(tracking, run_id)
    outcome, reason = "promoted" if promoted else "rejected", evaluation["reason"]
    with context.ledger.exclusive() as ledger:
        version = tracking.register(run_id, tags)
        if ledger.promotion(run_id) is None:
            if promoted:
                _check_champion(context, evaluation["champion_version"], version)
            tracking.tag_version(version, verdict=outcome, reason=reason)
            scores: HoldoutScores = {"challenger": evaluation["challenger"], "champion": evaluation["champion"]}
            ledger.add_promotion(run_id, version, promoted, reason, evaluation["champion_version"], scores)
            if promoted:
                ledger.add_move(version, evaluation["champion_version"], "promotion", reason, bundle.manifest_sha256)
                tracking.set_alias(version)
    summary = f"version {version} {outcome}: {reason}"
    return {"promoted": promoted, "version": version, "reason": reason, "summary": summary}


def origin(tracking: Tracking, run_id: str) -> dict[str, str]:
    """Tags of a version that was trained by a run of this release."""
    tags = version_tags(tracking.run(run_id).data.tags)
    return tags | {"fingerprint": FINGERPRINT, "model_card": f"runs:/{run_id}/{MODEL_CARD}"}


def _check_champion(context: Context, compared: str | None, version: str) -> None:
    current = context.registry.version_by_alias(context.settings.model_name, context.settings.model_alias)
    if current and current.version not in (compared, version):
        raise RegistryError(
            f"the challenger was compared with version {compared}, but the champion is version {current.version} now: "
            "run evaluate again"
        )
