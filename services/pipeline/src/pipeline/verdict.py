"""Acting on the gate's verdict, once: what promote and reject have in common."""

from __future__ import annotations

from typing import Any

from core.errors import RegistryError
from core.features import FINGERPRINT
from pipeline.card import CARD
from pipeline.context import Context
from pipeline.tracking import Tracking, version_tags


def act(context: Context, run_id: str, promoted: bool) -> dict[str, Any]:
    """Register the version with its verdict; if it won, let the alias name it.

    Asked again, the ledger's verdict stands, and a later champion too. The alias moves last, in one call, in a
    transaction of the ledger that holds the verdict and that no other promotion enters meanwhile: what fails before
    leaves both as they were, and another promoter sees this champion.

    Raises:
        RegistryError: the gate said otherwise; MLflow failed, or has another champion than was compared with.
        BundleError: the run's bundle is damaged or of other features.
    """
    tracking = Tracking(context.settings, context.registry)
    evaluation = tracking.evaluation(run_id)
    if evaluation.get("promoted") is not promoted:
        said = f"the gate said otherwise: {evaluation['reason']}" if "promoted" in evaluation else "there is no verdict"
        raise RegistryError(f"{said}; run evaluate again, and then what it says")
    tracking.bundle(run_id).check_golden()
    origin = version_tags(tracking.run(run_id).data.tags)
    outcome, reason = "promoted" if promoted else "rejected", evaluation["reason"]
    with context.ledger.alone() as ledger:
        tags = {**origin, "fingerprint": FINGERPRINT, "model_card": f"runs:/{run_id}/{CARD}"}
        version = tracking.register(run_id, tags)
        if ledger.promotion(run_id) is None:
            if promoted:
                _check_champion(context, evaluation["champion_version"], version)
            tracking.tag_version(version, verdict=outcome, reason=reason)
            scores = {name: evaluation[name] for name in ("challenger", "champion")}
            ledger.add_promotion(run_id, version, promoted, reason, evaluation["champion_version"], scores)
            if promoted:
                ledger.add_move(version, evaluation["champion_version"], "promotion", reason)
                tracking.set_alias(version)
    summary = f"version {version} {outcome}: {reason}"
    return {"promoted": promoted, "version": version, "reason": reason, "summary": summary}


def _check_champion(context: Context, compared: str | None, version: str) -> None:
    now = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    if now and now.version not in (compared, version):
        raise RegistryError(
            f"the challenger was compared with version {compared}, but the champion is version {now.version} now: "
            "run evaluate again"
        )
