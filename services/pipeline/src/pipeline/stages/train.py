"""Stage 5: train LightGBM on the clean rows of all batches so far, and log run, bundle and model card to MLflow."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import NotRequired

from core.errors import DataError
from core.features.columns import FINGERPRINT
from pipeline import rows
from pipeline.context import Context
from pipeline.evaluation.record import Scores
from pipeline.outcome import Outcome, peak_mib
from pipeline.reports import card
from pipeline.settings import PipelineSettings
from pipeline.tracking import Tracking, lineage_tags
from pipeline.training import encoded
from pipeline.training.boosting import parameters
from pipeline.training.pieces import PIECE_ROWS, pieces
from pipeline.training.plan import Plan, make_plan
from pipeline.training.sold import read_sold
from pipeline.training.trainer import TrainingData, train_model


class TrainOutcome(Outcome):
    """The MLflow run of the training."""

    run_id: str
    metrics: NotRequired[Scores]  # on the test rows; absent if an earlier training is used


def run(context: Context, batch: int) -> TrainOutcome:
    """Train because of `batch`. If the same batches were trained on before with the same code, return that run.

    Raises:
        RegistryError: MLflow does not answer, or has another version.
        DataError: a split has no rows.
    """
    batches = context.ledger.trainable_batches()
    earlier = context.ledger.find_training(batch, batches, context.code_version)
    if earlier:
        return {"run_id": earlier, "summary": f"batches {batches} were trained on before, in run {earlier}"}
    tracking = Tracking(context.settings, context.registry)
    entry = context.ledger.batch(batch)
    decided = context.ledger.decision(entry)
    reason = decided.reason if decided else "started by hand, without a decision"
    used = [context.ledger.batch(number) for number in batches]
    plan = make_plan(context, tracking, batches)
    data = _read(context, plan, batches)
    settings = _settings(context, batches)
    counts = data.counts()
    if not all(counts.values()):
        raise DataError(f"Batches {plan.batches} leave a split without rows: {counts}. Wait for a larger batch.")
    tags = {
        "dag_run": context.dag_run,
        "batch": str(batch),
        **lineage_tags(
            {one.batch_number: one.sha256 for one in used},
            tracking.decision_run(str(batch), entry.sha256),
        ),
        "reason": reason,
        "code_version": context.code_version,
        **context.origin,
        "fingerprint": FINGERPRINT,
    }
    with tracking.start_run(f"batch-{batch:04d}", tags) as active, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        result = train_model(data, settings, folder, plan.start)
        params = {"mode": plan.mode, **parameters(settings), "rounds": result.rounds, **counts}
        params |= {"piece_rows": PIECE_ROWS, "train_pieces": len(pieces(data.train))}
        facts = card.Facts(
            used,
            reason,
            context.code_version,
            params,
            result.scores,
            result.gain,
            result.test,
            result.estimates,
            result.sample,
            result.contributions,
            result.without,
        )  # fmt: skip - one argument per line would take a third of this function
        measured: dict[str, Scores] = {**result.scores, "peak": {"mib": peak_mib()}}
        tracking.log_training(params, measured, {"feature_importance": card.summary(facts)})
        tracking.log_texts(rows.reports(context.store, batch) | card.texts(facts))
        tracking.log_bundle(folder, result.manifest_sha256)
        run_id: str = active.info.run_id
    context.ledger.add_training(
        run_id, batch, batches, counts["train_rows"], context.code_version, result.scores, result.manifest_sha256
    )
    test = result.scores["test"]
    summary = (
        f"{counts['train_rows']:,} rows of batches {plan.batches}, {result.rounds} rounds: "
        f"test MAE ${test['mae']:,.0f}, RMSE ${test['rmse']:,.0f}, R2 {test['r2']:.3f}"
    )
    return {"run_id": run_id, "metrics": test, "summary": summary}


def _read(context: Context, plan: Plan, batches: list[int]) -> TrainingData:
    """Rows of the planned batches for the trees; sums, validation and test rows and sales of all batches."""
    train, validation = (rows.defer_split(context.store, batches, split, encoded.read) for split in rows.SPLITS[:2])
    return TrainingData(
        [part for number, part in zip(batches, train, strict=True) if number in plan.batches],
        encoded.total_sums(train),
        validation,
        rows.defer_split(context.store, batches, "test", rows.read_batch),
        [partial(read_sold, context.store, number) for number in batches],
    )


def _settings(context: Context, batches: list[int]) -> PipelineSettings:
    """The settings, with hyperparameters from a search if `training_search_trials` asks for one."""
    trials = context.settings.training_search_trials
    if not trials:
        return context.settings
    from pipeline.training import search  # loads Optuna, which takes time

    return search.best_settings(context, batches, trials)
