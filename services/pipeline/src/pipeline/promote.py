"""Stage 7: register the challenger; let the alias name it, or write down why not."""

from __future__ import annotations

import math
from typing import Any

from core.errors import RegistryError
from core.features import FINGERPRINT
from pipeline.context import Context
from pipeline.settings import PipelineSettings
from pipeline.tracking import Tracking


def run(context: Context, run_id: str) -> dict[str, Any]:
    """Act on the evaluation of a run, once: asked again, the ledger's verdict stands, and a later champion too.

    Raises:
        RegistryError: MLflow failed, or has another champion than was compared with; the alias is as it was.
        BundleError: the run's bundle is damaged or of other features.
    """
    tracking = Tracking(context.settings, context.registry)
    evaluation = tracking.evaluation(run_id)
    tracking.bundle(run_id).check_golden()
    manifest = tracking.run(run_id).data.tags["manifest_sha256"]
    version = tracking.register(run_id, {"manifest_sha256": manifest, "fingerprint": FINGERPRINT})
    known = context.ledger.promotion(run_id)
    promoted, reason = (known["promoted"], known["reason"]) if known else judge(evaluation, context.settings)
    outcome = "promoted" if promoted else "rejected"
    if promoted and not known:
        _check_champion(context, evaluation["champion_version"], version)
    tracking.tag_version(version, verdict=outcome, reason=reason)
    if promoted and not known:
        tracking.set_alias(version)
    scores = {"challenger": evaluation["challenger"], "champion": evaluation["champion"]}
    context.ledger.add_promotion(run_id, version, promoted, reason, evaluation["champion_version"], scores)
    summary = f"version {version} {outcome}: {reason}"
    return {"promoted": promoted, "version": version, "reason": reason, "summary": summary}


def _check_champion(context: Context, compared: str | None, version: str) -> None:
    now = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    if now and now.version not in (compared, version):
        raise RegistryError(
            f"the challenger was compared with version {compared}, but the champion is version {now.version} now: "
            "run evaluate again"
        )


def judge(evaluation: dict[str, Any], settings: PipelineSettings) -> tuple[bool, str]:
    """Whether the challenger wins, and why, with the figures.

    It wins if its MAE is at least `min_mae_gain` better and its RMSE at most `max_rmse_loss` worse than the champion's
    on the common holdout, or if there is no champion that could serve.
    """
    challenger, champion = evaluation["challenger"], evaluation["champion"]
    if not all(math.isfinite(value) for value in challenger.values()):
        return False, f"its scores are not finite: {challenger}"
    if champion is None:
        if evaluation["champion_unusable"]:
            return True, f"the champion cannot serve: {evaluation['champion_unusable']}"
        return True, f"it is the first model: MAE ${challenger['mae']:,.0f} on {evaluation['rows']:,} rows"
    gain = 1 - challenger["mae"] / champion["mae"]
    loss = challenger["rmse"] / champion["rmse"] - 1
    figures = (
        f"MAE ${challenger['mae']:,.0f} against ${champion['mae']:,.0f} ({-gain:+.1%}), "
        f"RMSE ${challenger['rmse']:,.0f} against ${champion['rmse']:,.0f} ({loss:+.1%})"
    )
    against = []
    if gain < settings.min_mae_gain:
        against.append(f"the MAE must be at least {settings.min_mae_gain:.0%} better")
    if loss > settings.max_rmse_loss:
        against.append(f"the RMSE may be at most {settings.max_rmse_loss:.0%} worse")
    return not against, figures + (f"; but {' and '.join(against)}" if against else "")
