"""The panels of the dashboard, in rows: each with title, description, unit and queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ci.monitoring import queries as q
from ci.monitoring.queries import Query


@dataclass(frozen=True)
class Panel:
    """A time series (`lines`) or a single value (`figure`) of the dashboard. `unit` is a unit id of Grafana."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    kind: Literal["lines", "figure"] = "lines"
    width: int = 8


ROWS: dict[str, tuple[Panel, ...]] = {
    "Service": (
        Panel(
            "Model in service",
            "Model versions in service, each with its number of replicas. Two versions appear only during a change.",
            "short",
            (q.MODEL_VERSION,),
            "figure",
            6,
        ),
        Panel(
            "Requests",
            "Calls per second of the routes for prices and true prices, by route and class of HTTP status.",
            "reqps",
            (q.REQUESTS,),
            width=6,
        ),
        Panel(
            "Prediction latency",
            "Duration of one call in the service, with features and model, by route. A call may contain many listings.",
            "s",
            (q.LATENCY_P50, q.LATENCY_P99),
            width=6,
        ),
        Panel(
            "Failed requests",
            "Share of failed calls, by route: invalid input, no model, no ledger (feedback), or an internal error.",
            "percentunit",
            (q.ERROR_SHARE,),
            width=6,
        ),
        Panel(
            "Predicted prices",
            "Predicted prices. A jump without a new model means that clients send other listings.",
            "currencyUSD",
            (q.PRICE_MEDIAN, q.PRICE_P95),
        ),
        Panel("Outcomes", "Predictions per second by outcome.", "cps", (q.PRICES_ANSWERED,)),
        Panel(
            "Checks of the registry",
            "Checks of the alias in MLflow by all replicas in five minutes, by outcome.",
            "short",
            (q.REFRESHES,),
        ),
    ),
    "Live accuracy": (
        Panel(
            "True prices",
            "Predictions with a true price from POST /feedback, by model version.",
            "short",
            (q.FEEDBACK,),
            "figure",
            6,
        ),
        Panel(
            "Live error (MAE)",
            "Mean absolute error of predictions with a true price, by model version.",
            "currencyUSD",
            (q.LIVE_MAE,),
            width=6,
        ),
        Panel(
            "Live error (median)",
            "Median absolute error as a share of the true price, by model version.",
            "percentunit",
            (q.LIVE_MEDIAN_APE,),
            width=6,
        ),
        Panel(
            "Coverage of prediction intervals",
            "Share of true prices from low to high. It is 80 % if live listings resemble the training data.",
            "percentunit",
            (q.LIVE_COVERAGE,),
            width=6,
        ),
        Panel(
            "Predictions logged",
            "Rows per second written to the ledger, spilled to disk while it is down, and lost (must be 0).",
            "cps",
            (q.LOGGED, q.NOT_LOGGED),
            width=6,
        ),
        Panel("Waiting in memory", "Requests that wait to be logged, by replica.", "short", (q.LOG_QUEUED,), width=6),
        Panel(
            "Waiting on disk",
            "Log rows that wait for the ledger. Largest value of all replicas, as they may share a volume.",
            "bytes",
            (q.LOG_SPILLED,),
            width=6,
        ),
        Panel(
            "Time to log a batch",
            "Time until the ledger stores or refuses a batch of rows.",
            "s",
            (q.LOG_SECONDS,),
            width=6,
        ),
    ),
    "Shadow": (
        Panel(
            "Challenger against champion",
            "Relative difference of both prices of one listing. Empty without a challenger.",
            "percentunit",
            (q.SHADOW_MEDIAN, q.SHADOW_P95),
        ),
        Panel(
            "Bias of the challenger",
            "Sum of the challenger's prices relative to the champion's. Above 0 its prices are higher.",
            "percentunit",
            (q.SHADOW_BIAS,),
            "figure",
        ),
        Panel(
            "Shadow listings",
            "Listings per second: compared, dropped because the queue was full, and failed in the challenger.",
            "cps",
            (q.SHADOW_LISTINGS,),
        ),
    ),
    "Learning": (
        Panel(
            "Error on the holdout (MAE)",
            "Mean absolute error of challenger and champion on their common holdout, at the last verdict.",
            "currencyUSD",
            (q.HOLDOUT_MAE,),
        ),
        Panel(
            "Error on the holdout (RMSE)",
            "Root mean squared error on the same holdout. Large errors weigh more.",
            "currencyUSD",
            (q.HOLDOUT_RMSE,),
        ),
        Panel("Since the last run", "Time since a stage last wrote to the ledger.", "s", (q.SINCE_LAST_RUN,), "figure"),
        Panel("Batches", "Batches in the ledger by state.", "short", (q.BATCHES,), "figure", 6),
        Panel(
            "Rows",
            "Listings received, kept as clean, and quarantined by validation, in all batches.",
            "short",
            (q.BATCH_ROWS,),
            "figure",
            6,
        ),
        Panel(
            "Decisions",
            "Batches that triggered a training, and batches that were skipped. The page History has the reasons.",
            "short",
            (q.DECISIONS,),
            "figure",
            6,
        ),
        Panel(
            "Promotions",
            "Challengers that became champion, and challengers that were rejected.",
            "short",
            (q.PROMOTIONS,),
            "figure",
            6,
        ),
    ),
    "Pipeline": (
        Panel(
            "Heartbeats",
            "Heartbeats per second of Airflow's scheduler and DAG processor. At zero, or in a gap, no task starts.",
            "cps",
            (q.SCHEDULER_HEARTBEATS, q.PROCESSOR_HEARTBEATS),
        ),
        Panel(
            "Runs and tasks",
            "Running DAG runs, and running and queued tasks of the executor.",
            "short",
            (q.DAG_RUNS_RUNNING, q.TASKS_RUNNING, q.TASKS_QUEUED),
        ),
        Panel(
            "DAG files",
            "Import errors (must be 0), and the time to parse all DAG files in seconds.",
            "short",
            (q.IMPORT_ERRORS, q.PARSE_SECONDS),
        ),
    ),
    "Platform": (
        Panel(
            "Components up",
            "1 if Prometheus can scrape the component, 0 if not.",
            "short",
            (q.TARGETS_UP,),
            "figure",
            24,
        ),
        Panel("Memory", "Working set by pod: memory that the kernel cannot reclaim.", "bytes", (q.MEMORY,)),
        Panel(
            "Memory relative to the limit", "At 1 Kubernetes kills the container.", "percentunit", (q.MEMORY_OF_LIMIT,)
        ),
        Panel("CPU", "Cores in use by pod.", "short", (q.CPU,)),
        Panel("Container restarts", "Restarts of containers in the last half hour, by pod.", "short", (q.STARTS,)),
        Panel(
            "Disk",
            "Free space and size of the disk of MinIO's volume. With local volumes it is the disk of the node.",
            "bytes",
            (q.DISK_FREE, q.DISK_SIZE),
        ),
        Panel("Databases", "Size of each PostgreSQL database.", "bytes", (q.DATABASE_BYTES,)),
        Panel("Database connections", "Open connections by database.", "short", (q.DATABASE_CONNECTIONS,), width=12),
        Panel(
            "Time series",
            "Active series in Prometheus. The number grows with labels, not with time.",
            "short",
            (q.SAMPLES,),
            width=12,
        ),
    ),
}


def panel_queries() -> dict[str, str]:
    """Every expression of the dashboard, by panel title and legend."""
    return {
        f"{panel.title}: {query.legend}": query.expr
        for panels in ROWS.values()
        for panel in panels
        for query in panel.queries
    }
