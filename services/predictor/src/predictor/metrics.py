"""Prometheus metrics of the service. Their names are in `core.metrics`, which dashboards and alerts read as well.

The metrics of HTTP requests are in `predictor.http.metrics`.
"""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, Histogram

from core import metrics as names

predictions = Counter(
    names.PREDICTIONS,
    "Listings with a price, and requests without one, by outcome.",
    ["model_version", "outcome"],
)
prices = Histogram(
    names.PREDICTION_PRICE,
    "Prices in answers, in US dollars.",
    buckets=[50e3, 100e3, 150e3, 200e3, 250e3, 300e3, 400e3, 500e3, 750e3, 1e6, 2e6, 5e6],
)
_price_seconds = Histogram(
    names.PREDICT_SECONDS,
    "Seconds from the body of a request to its prices, by route; of `/explain` with their explanations.",
    ["handler"],
    buckets=[0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
)
predict_seconds = _price_seconds.labels("/predict")  # a look-up takes as long as counting
explain_seconds = _price_seconds.labels("/explain")
refused = Counter(
    names.REQUESTS_REFUSED,
    "Requests refused before their body was parsed: overload, rate_limited, slow_body, too_large, unauthorized.",
    ["reason"],
)
for reason in ("overload", "rate_limited", "slow_body", "too_large", "unauthorized"):
    refused.labels(reason)  # creates the series at 0, so that the first refusal is an increase
client_requests = Counter(
    names.CLIENT_REQUESTS, "Requests with a valid API key, by client: accepted, rate_limited.", ["client", "outcome"]
)
in_flight = Gauge(names.REQUESTS_IN_FLIGHT, "Requests that were accepted and are not answered yet.")


def add_client(name: str) -> None:
    """Create the series of a client at 0."""
    for outcome in ("accepted", "rate_limited"):
        client_requests.labels(name, outcome)


def forget_client(name: str) -> None:
    """Remove the series of a client whose key was revoked, so that there are only series of present clients."""
    for outcome in ("accepted", "rate_limited"):
        client_requests.remove(name, outcome)


@dataclass(frozen=True)
class FollowerMetrics:
    """Metrics of the model that an alias names."""

    info: Gauge
    loaded: Gauge
    refresh: Counter
    refused: Counter


_REFRESH_HELP = "Polls of the registry, by outcome: current, loaded, absent, refused, unreachable, failed"
champion = FollowerMetrics(
    Gauge(names.MODEL_INFO, "1 for the model that answers; absent without a model.", ["name", "version", "run_id"]),
    Gauge(names.MODEL_LOADED, "Unix time when the model that answers was loaded."),
    Counter(names.MODEL_REFRESH, f"{_REFRESH_HELP}.", ["outcome"]),
    Counter(names.MODEL_REFUSED, "Versions that failed a check; `/model` has the causes.", ["version"]),
)
challenger = FollowerMetrics(
    Gauge(
        names.CHALLENGER_INFO,
        "1 for the challenger that shadows the champion; absent without one.",
        ["name", "version", "run_id"],
    ),
    Gauge(names.CHALLENGER_LOADED, "Unix time when the challenger was loaded."),
    Counter(names.CHALLENGER_REFRESH, f"{_REFRESH_HELP}, for the challenger.", ["outcome"]),
    Counter(names.CHALLENGER_REFUSED, "Challenger versions that failed a check.", ["version"]),
)
shadow_listings = Counter(
    names.SHADOW_LISTINGS,
    "Listings of sampled requests: compared, dropped because the queue was full, failed in the challenger.",
    ["outcome"],
)
shadow_difference = Histogram(
    names.SHADOW_DIFFERENCE,
    "Absolute difference of the challenger's price from the champion's, as a share of the champion's price.",
    buckets=[0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1],
)
shadow_dollars = Counter(names.SHADOW_DOLLARS, "Sum of the compared prices, in US dollars, by model.", ["model"])
shadow_rows = Counter(
    names.SHADOW_ROWS, "Compared listings: written to the ledger, or lost before they could be written.", ["outcome"]
)
for counter, values in (
    (shadow_listings, ("compared", "dropped", "failed")),
    (shadow_dollars, ("champion", "challenger")),
    (shadow_rows, ("written", "lost")),
):
    for value in values:
        counter.labels(value)  # creates the series at 0

log_rows = Counter(
    names.PREDICTION_LOG_ROWS, "Rows of the prediction log: written to the database, spilled to disk.", ["outcome"]
)
log_dropped = Counter(
    names.PREDICTION_LOG_DROPPED,
    "Lost rows of the prediction log: queue_full, spill_full, spill_failed, refused, unreadable.",
    ["reason"],
)
for outcome in ("written", "spilled"):
    log_rows.labels(outcome)
for reason in ("queue_full", "spill_full", "spill_failed", "refused", "unreadable"):
    log_dropped.labels(reason)
log_queued = Gauge(names.PREDICTION_LOG_QUEUED, "Requests in the queue of the prediction log at its last flush.")
log_spill_bytes = Gauge(names.PREDICTION_LOG_SPILL_BYTES, "Bytes of the prediction log that wait on disk.")
log_seconds = Histogram(
    names.PREDICTION_LOG_SECONDS,
    "Seconds that the database needed to store or refuse a batch of the prediction log.",
    buckets=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
)
log_last_write = Gauge(names.PREDICTION_LOG_LAST_WRITE, "Unix time when the last batch of predictions was written.")

ledger_up = Gauge(names.LEDGER_UP, "1 if the last read of the ledger succeeded.")
batches = Gauge(names.BATCHES, "Batches in the ledger, by state.", ["state"])
batch_rows = Gauge(names.BATCH_ROWS, "Rows of all batches: received, clean, quarantined, duplicate.", ["kind"])
undecided = Gauge(names.UNDECIDED, "Stored batches without a decision.")
batch_gaps = Gauge(names.BATCH_GAPS, "Batch numbers that never arrived in a usable form.")
decisions = Gauge(names.DECISIONS, "Decisions on batches: train or skip.", ["decision"])
promotions = Gauge(names.PROMOTIONS, "Verdicts on trained models: promoted or rejected.", ["outcome"])
holdout_mae = Gauge(
    names.HOLDOUT_MAE, "Mean absolute error on the common holdout of the last verdict, in US dollars.", ["model"]
)
holdout_rmse = Gauge(
    names.HOLDOUT_RMSE, "Root mean square error on the common holdout of the last verdict, in US dollars.", ["model"]
)
feedback = Gauge(names.FEEDBACK, "Predictions of a model version that have feedback (a true price).", ["version"])
live_mae = Gauge(names.LIVE_MAE, "Mean absolute error of the predictions with feedback, in US dollars.", ["version"])
live_median_ape = Gauge(
    names.LIVE_MEDIAN_APE, "Median absolute error of predictions with feedback, as a share of the price.", ["version"]
)
live_coverage = Gauge(
    names.LIVE_COVERAGE, "Share of the true prices that lie inside the prediction interval.", ["version"]
)
invalid_prices = Gauge(
    names.INVALID_PRICES,
    "Rows of the ledger with a price beyond its limits, by table; no figure counts them.",
    ["source"],
)
last_run = Gauge(names.LAST_RUN, "Unix time of the last entry in the ledger.")
last_backup = Gauge(
    names.LAST_BACKUP,
    "Unix time of the last finished and verified backup: full, or wal (WAL and objects since then). 0: never.",
    ["kind"],
)
