"""The service's own metrics; their names are in `core.metrics`, where dashboards and alerts find them."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from core import metrics as names
from predictor.http_metrics import HttpMetrics

http = HttpMetrics()
predictions = Counter(
    names.PREDICTIONS, "Listings priced, and requests that were not, by reason.", ["model_version", "outcome"]
)
prices = Histogram(
    names.PREDICTION_PRICE,
    "Prices answered, in US dollars.",
    buckets=[50e3, 100e3, 150e3, 200e3, 250e3, 300e3, 400e3, 500e3, 750e3, 1e6, 2e6, 5e6],
)
predict_seconds = Histogram(
    names.PREDICT_SECONDS,
    "Seconds from a request's body to its prices.",
    buckets=[0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
)
refused = Counter(
    names.REQUESTS_REFUSED,
    "Requests refused before their body was read or held: overload, too_large, unauthorized.",
    ["reason"],
)
for reason in ("overload", "too_large", "unauthorized"):
    refused.labels(reason)  # zero from the start, so that the first refusal is an increase
in_flight = Gauge(names.REQUESTS_IN_FLIGHT, "Requests accepted and not yet answered.")


@dataclass(frozen=True)
class Followed:
    """The model that an alias names."""

    info: Gauge
    loaded: Gauge
    refresh: Counter
    refused: Counter


_LOOKS = "Looks at the registry, by outcome: current, loaded, absent, refused, unreachable, failed"
champion = Followed(
    Gauge(names.MODEL_INFO, "1 for the model that answers; absent without one.", ["name", "version", "run_id"]),
    Gauge(names.MODEL_LOADED, "Unix time at which the model that answers was loaded."),
    Counter(names.MODEL_REFRESH, f"{_LOOKS}.", ["outcome"]),
    Counter(names.MODEL_REFUSED, "Versions that may not serve; `/model` says why.", ["version"]),
)
challenger = Followed(
    Gauge(
        names.CHALLENGER_INFO,
        "1 for the model that prices beside the champion; absent without one.",
        ["name", "version", "run_id"],
    ),
    Gauge(names.CHALLENGER_LOADED, "Unix time at which the model that prices beside the champion was loaded."),
    Counter(names.CHALLENGER_REFRESH, f"{_LOOKS}, for the challenger.", ["outcome"]),
    Counter(names.CHALLENGER_REFUSED, "Versions that may not price beside the champion.", ["version"]),
)
shadow_listings = Counter(
    names.SHADOW_LISTINGS,
    "Listings of sampled requests: compared, dropped as too many wait, failed to be priced by the challenger.",
    ["outcome"],
)
shadow_difference = Histogram(
    names.SHADOW_DIFFERENCE,
    "How far the challenger's price of a listing is from the champion's, as a share of the champion's.",
    buckets=[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1],
)
shadow_dollars = Counter(
    names.SHADOW_DOLLARS, "Sum of the prices that were compared, in US dollars, by model.", ["model"]
)
shadow_rows = Counter(
    names.SHADOW_ROWS, "Compared listings that are rows of the ledger (written), or never will be (lost).", ["outcome"]
)
for counter, values in (
    (shadow_listings, ("compared", "dropped", "failed")),
    (shadow_dollars, ("champion", "challenger")),
    (shadow_rows, ("written", "lost")),
):
    for value in values:
        counter.labels(value)  # as above

log_rows = Counter(
    names.PREDICTION_LOG_ROWS, "Rows of the prediction log: written to the database, spilled to disk.", ["outcome"]
)
log_dropped = Counter(
    names.PREDICTION_LOG_DROPPED,
    "Rows of the prediction log that are lost: queue_full, spill_full, spill_failed, refused, unreadable.",
    ["reason"],
)
for outcome in ("written", "spilled"):
    log_rows.labels(outcome)
for reason in ("queue_full", "spill_full", "spill_failed", "refused", "unreadable"):
    log_dropped.labels(reason)
log_queued = Gauge(names.PREDICTION_LOG_QUEUED, "Requests that waited when the prediction log was last emptied.")
log_spill_bytes = Gauge(names.PREDICTION_LOG_SPILL_BYTES, "Bytes of the prediction log that wait on disk.")
log_seconds = Histogram(
    names.PREDICTION_LOG_SECONDS,
    "Seconds that the database took for a batch of the prediction log, or to refuse it.",
    buckets=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
)
log_last_write = Gauge(names.PREDICTION_LOG_LAST_WRITE, "Unix time of the last batch of predictions that was written.")

ledger_up = Gauge(names.LEDGER_UP, "1 if the ledger answered the last time it was asked.")
batches = Gauge(names.BATCHES, "Batches in the ledger, by state.", ["state"])
batch_rows = Gauge(names.BATCH_ROWS, "Rows of all batches: received, clean, quarantined, duplicate.", ["kind"])
undecided = Gauge(names.UNDECIDED, "Stored batches on which no run has decided.")
decisions = Gauge(names.DECISIONS, "Decisions on batches: train or skip.", ["decision"])
promotions = Gauge(names.PROMOTIONS, "Verdicts on trained models: promoted or rejected.", ["outcome"])
holdout_mae = Gauge(
    names.HOLDOUT_MAE, "Mean absolute error on the common holdout of the last verdict, in US dollars.", ["model"]
)
holdout_rmse = Gauge(
    names.HOLDOUT_RMSE, "Root mean square error on the common holdout of the last verdict, in US dollars.", ["model"]
)
feedback = Gauge(names.FEEDBACK, "Predictions of a model version whose true price is known.", ["version"])
live_mae = Gauge(names.LIVE_MAE, "Mean absolute error of those, in US dollars.", ["version"])
live_median_ape = Gauge(names.LIVE_MEDIAN_APE, "Median of their absolute errors as shares of the price.", ["version"])
live_coverage = Gauge(names.LIVE_COVERAGE, "Share of the true prices that are inside of the price range.", ["version"])
last_run = Gauge(names.LAST_RUN, "Unix time of the last entry in the ledger.")
