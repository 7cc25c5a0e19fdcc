"""Stage 5: LightGBM on the clean rows of the batches so far."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from core.booster import Booster
from core.bundle import Estimates, contributions, estimates, golden_sample, load_bundle, prices, write_bundle
from core.encodings import Encodings, Sums, fit
from core.errors import BundleError, DataError
from core.features import FIELDS, FINGERPRINT, Columns, build_features, matrix
from core.ranges import Ranges
from pipeline import card, encoded, rows
from pipeline.calibration import calibrate, measured
from pipeline.context import Context
from pipeline.encoded import Part, training_matrix
from pipeline.learner import Rows, boost, dataset, parameters
from pipeline.scores import coverage, score
from pipeline.settings import PipelineSettings
from pipeline.tracking import Tracking, lineage_tags

_SCORED_ROWS = 20_000  # of train and validation, at most
_EXPLAINED_ROWS = 400  # of the test rows, by SHAP values
_PARTLY_KNOWN_ROWS = 2_000  # of the test rows, without some fields
_TOGETHER = (("zip_code", "city", "state"), ("bed", "bath"), ("bed", "bath", "house_size"), ("status", "brokered_by"))


def run(context: Context, batch: int) -> dict[str, Any]:
    """Train because of `batch`; the same batches and code were trained on before, return that run.

    Raises:
        RegistryError: MLflow is away or of another version.
        DataError: there are no clean rows.
    """
    batches = context.ledger.decided_batches()
    known = context.ledger.find_training(batch, batches, context.code_version)
    if known:
        return {"run_id": known, "summary": f"batches {batches} were trained on before, in run {known}"}
    tracking = Tracking(context.settings, context.registry)
    cause = context.ledger.batch(batch)
    decided = context.ledger.decision(cause)
    reason = decided[1] if decided else "by hand, without a decision"
    used = [context.ledger.batch(number) for number in batches]
    plan = _plan(context, tracking, batches)
    train = {number: encoded.read(context.store, number, "train") for number in batches}
    data = Data(
        [train[number] for number in plan.batches],
        Sums.total([part.sums for part in train.values()]),
        [encoded.read(context.store, number, "validation") for number in batches],
        rows.read_split(context.store, batches, "test"),
    )
    del train  # the rows of a batch are let go once they are in the matrix
    settings = _searched(context, batches)
    counts = data.counts()
    if not all(counts.values()):
        raise DataError(f"batches {plan.batches} leave a split without rows: {counts}")
    tags = {
        "dag_run": context.dag_run,
        "batch": str(batch),
        **lineage_tags(
            {one.batch_number: one.sha256 for one in used},
            tracking.decision_run(str(batch), cause.sha256),
        ),
        "reason": reason,
        "code_version": context.code_version,
        **context.origin,
        "fingerprint": FINGERPRINT,
    }
    with tracking.start_run(f"batch-{batch:04d}", tags) as active, tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        trained = learn(data, settings, folder, plan.start)
        params = {"mode": plan.told, **parameters(settings), "rounds": trained.rounds, **counts}
        facts = card.Facts(
            used, reason, context.code_version, params, trained.scores, trained.gain, data.test, trained.estimates,
            trained.sample, trained.contributions, trained.without,
        )  # fmt: skip
        tracking.log_training(params, trained.scores, {"feature_importance": card.summary(facts)})
        tracking.log_texts(rows.reports(context.store, batch) | card.texts(facts))
        tracking.log_bundle(folder, trained.manifest_sha256)
        run_id: str = active.info.run_id
    context.ledger.add_training(run_id, batch, batches, counts["train_rows"], context.code_version, trained.scores)
    test = trained.scores["test"]
    summary = (
        f"{counts['train_rows']:,} rows of batches {plan.batches}, {trained.rounds} rounds: "
        f"test MAE ${test['mae']:,.0f}, RMSE ${test['rmse']:,.0f}, R2 {test['r2']:.3f}"
    )
    return {"run_id": run_id, "metrics": test, "summary": summary}


def _searched(context: Context, batches: list[int]) -> PipelineSettings:
    trials = context.settings.training_search_trials
    if not trials:
        return context.settings
    from pipeline import search  # brings Optuna along

    return search.best(context, batches, trials)


@dataclass(frozen=True)
class Plan:
    """Which batches' rows the trees see, and the text of the model whose trees come first."""

    batches: list[int]
    told: str  # as a parameter of the run
    start: str | None = None


def _plan(context: Context, tracking: Tracking, batches: list[int]) -> Plan:
    """See `training_mode`; where the champion cannot be continued, everything is trained on."""
    mode = context.settings.training_mode
    if mode == "window":
        return Plan(batches[-context.settings.training_window :], mode)
    champion = context.registry.champion(context.settings.model_name, context.settings.model_alias)
    if mode == "full" or champion is None:
        return Plan(batches, "full")
    used = {int(number) for number in tracking.run(champion.run_id).data.tags["batches"].split(",")}
    new = [number for number in batches if number not in used]
    try:
        with tempfile.TemporaryDirectory() as folder:
            context.registry.download(champion, Path(folder))
            load_bundle(Path(folder))  # only a model that is whole, and of these features, is continued
            start = (Path(folder) / "model.txt").read_text()
    except BundleError:
        return Plan(batches, "full")
    return Plan(new, f"continue of version {champion.version}", start) if new else Plan(batches, "full")


@dataclass
class Data:
    """What a training reads: rows for the trees, sums of all batches for the encodings, and rows to judge by."""

    train: list[Part]
    sums: Sums
    validation: list[Part]
    test: pl.DataFrame

    @staticmethod
    def of(parts: dict[rows.Split, pl.DataFrame]) -> Data:
        """The clean rows of each split, as one batch."""
        train = Part.of(parts["train"])
        return Data([train], train.sums, [Part.of(parts["validation"])], parts["test"])

    def counts(self) -> dict[str, int]:
        """Rows of each split."""
        train, validation = (sum(len(part.price) for part in parts) for parts in (self.train, self.validation))
        return {"train_rows": train, "validation_rows": validation, "test_rows": self.test.height}


@dataclass(frozen=True)
class Trained:
    """What is known of a training, beside the bundle that it wrote."""

    rounds: int
    gain: list[float]  # by feature: how much it lowered the loss
    scores: dict[str, dict[str, float]]  # by split
    estimates: Estimates  # of the test rows
    sample: np.ndarray  # feature matrix of some test rows
    contributions: np.ndarray  # of the features to the logarithms of their prices
    without: dict[str, dict[str, float]]  # errors and ranges of test rows, had they been without a field
    manifest_sha256: str


def learn(data: Data, settings: PipelineSettings, folder: Path, start: str | None = None) -> Trained:
    """Train, and write the bundle to `folder`; takes the rows of `data` with it."""
    encodings, whole = fit(data.sums), start is not None
    # each matrix is let go before the next step: what LightGBM holds of it is a quarter
    price = _prices(data.train)
    features, complete = training_matrix(data.train, data.sums, settings.seed)
    train = dataset((features, price), settings, whole=whole)
    judged = {"train": _some(features, price, complete)}
    del features
    known = measured(data.validation)
    price = _prices(data.validation)
    features = np.concatenate([matrix(part.columns, encodings) for part in data.validation])
    data.validation.clear()
    validation = dataset((features, price), settings, train, whole=whole)
    judged["validation"] = _some(features, price)
    del features
    booster = boost(train, validation, settings, progress=100, start=start)
    text = booster.model_to_string()
    gain = booster.feature_importance("gain").tolist()
    del booster, train, validation
    model = Booster(text)
    ranges = calibrate(model, encodings, known)
    test = build_features(data.test, encodings), data.test["price"].to_numpy()
    estimated = estimates(model, ranges, test[0])
    scores = {name: score(price, prices(model, features)) for name, (features, price) in judged.items()}
    scores["test"] = score(test[1], estimated.prices) | coverage(test[1], estimated)
    sample = test[0][:: -(-len(test[0]) // _EXPLAINED_ROWS)]
    added = contributions(model, sample, encodings)[1]
    unknown = _without(data.test, model, encodings, ranges)
    # the golden listings come from rows that were not trained on
    manifest = write_bundle(folder, text, encodings, golden_sample(data.test), ranges)
    return Trained(model.rounds, gain, scores, estimated, sample, added, unknown, manifest)


def _without(
    test: pl.DataFrame, model: Booster, encodings: Encodings, ranges: Ranges | None
) -> dict[str, dict[str, float]]:
    """Scores of some test rows, had they been without nothing, each of the fields, and what often goes together."""
    some = test[:: max(1, -(-test.height // _PARTLY_KNOWN_ROWS))]
    columns, price = Columns.of(some).learned(encodings), some["price"].to_numpy()
    found = {}
    for fields in ((), *((field,) for field in FIELDS), *_TOGETHER, tuple(FIELDS)):
        estimated = estimates(model, ranges, matrix(columns.without(dict.fromkeys(fields, True)), encodings))
        name = "anything" if len(fields) == len(FIELDS) else ", ".join(fields) or "nothing"
        found[name] = {"rows": some.height, **score(price, estimated.prices), **coverage(price, estimated)}
    return found


def _prices(parts: list[Part]) -> np.ndarray:
    return np.concatenate([part.price for part in parts])


def _some(features: np.ndarray, price: np.ndarray, complete: np.ndarray | None = None) -> Rows:
    """Of the (complete) rows at most as many as it takes to know their error, evenly spread: predictions cost time."""
    kept = np.arange(len(price)) if complete is None else np.flatnonzero(complete)
    kept = kept[:: max(1, -(-len(kept) // _SCORED_ROWS))]
    return features[kept], price[kept]
