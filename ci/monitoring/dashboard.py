"""The dashboard `House price platform`: rows of panels, each with title, description and unit."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import Any, Literal

from grafana_foundation_sdk.builders import common as commons
from grafana_foundation_sdk.builders import dashboard as dashboards
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import DashboardCursorSync, DataSourceRef

from ci.monitoring import queries as q
from ci.monitoring.queries import Query

UID = "house-price-platform"
# The chart provisions its Prometheus under this uid.
PROMETHEUS = DataSourceRef(type_val="prometheus", uid="prometheus")
PANEL_HEIGHT = 7


@dataclass(frozen=True)
class Panel:
    """One chart (`lines`) or one figure (`figure`) of the dashboard; `unit` is Grafana's name of it."""

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
            "Which version answers, and on how many replicas. Two versions at once only while they swap.",
            "short",
            (q.MODEL_VERSION,),
            "figure",
            6,
        ),
        Panel(
            "Requests", "Calls of POST /predict per second, by class of HTTP status.", "reqps", (q.REQUESTS,), width=6
        ),
        Panel(
            "Time to a price",
            "Time the service takes for one call, features and model included. A call may hold many listings.",
            "s",
            (q.LATENCY_P50, q.LATENCY_P99),
            width=6,
        ),
        Panel(
            "Failed predictions",
            "Share of calls that ended without a price: refused input, no model, or an error of ours.",
            "percentunit",
            (q.ERROR_SHARE,),
            width=6,
        ),
        Panel(
            "Prices answered",
            "Predicted prices. A jump without a new model means that other listings are asked for.",
            "currencyUSD",
            (q.PRICE_MEDIAN, q.PRICE_P95),
        ),
        Panel("Outcomes", "Predictions per second by outcome.", "cps", (q.PRICES_ANSWERED,)),
        Panel(
            "Looks at the registry",
            "How often the replicas asked MLflow for the champion in five minutes, and what came of it.",
            "short",
            (q.REFRESHES,),
        ),
    ),
    "Live accuracy": (
        Panel(
            "True prices",
            "Predictions whose true price was told by POST /feedback, by model version.",
            "short",
            (q.FEEDBACK,),
            "figure",
            6,
        ),
        Panel(
            "Live error (MAE)", "Mean absolute error of those, by model version.", "currencyUSD", (q.LIVE_MAE,), width=6
        ),
        Panel(
            "Live error (median)",
            "Median of their absolute errors as shares of the true prices, by model version.",
            "percentunit",
            (q.LIVE_MEDIAN_APE,),
            width=6,
        ),
        Panel(
            "True prices inside the range",
            "Share of the true prices from low to high. It is 80 % where live listings are like those learned from.",
            "percentunit",
            (q.LIVE_COVERAGE,),
            width=6,
        ),
        Panel(
            "Predictions logged",
            "Rows per second written to the ledger, kept on disk while it is away, and lost (must be none).",
            "cps",
            (q.LOGGED, q.NOT_LOGGED),
            width=6,
        ),
        Panel("Waiting in memory", "Requests that wait to be logged, by replica.", "short", (q.LOG_QUEUED,), width=6),
        Panel(
            "Waiting on disk",
            "What is kept until the ledger is back. The largest of the replicas, as they may share a volume.",
            "bytes",
            (q.LOG_SPILLED,),
            width=6,
        ),
        Panel("Time to log a batch", "Until the ledger has it, or refuses.", "s", (q.LOG_SECONDS,), width=6),
    ),
    "Shadow": (
        Panel(
            "Challenger against champion",
            "How far a challenger's price is from the champion's for the same listing; empty without a challenger.",
            "percentunit",
            (q.SHADOW_MEDIAN, q.SHADOW_P95),
        ),
        Panel(
            "Bias of the challenger",
            "Sum of the challenger's prices against that of the champion's: above 0 it asks for more.",
            "percentunit",
            (q.SHADOW_BIAS,),
            "figure",
        ),
        Panel(
            "Listings in the shadow",
            "Per second: compared, dropped because the queue was full, and not priced by the challenger.",
            "cps",
            (q.SHADOW_LISTINGS,),
        ),
    ),
    "Learning": (
        Panel(
            "Error on the holdout (MAE)",
            "Mean absolute error at the last verdict, of the challenger and of the champion it met, on one holdout.",
            "currencyUSD",
            (q.HOLDOUT_MAE,),
        ),
        Panel(
            "Error on the holdout (RMSE)",
            "Root mean squared error on the same holdout; large errors weigh more.",
            "currencyUSD",
            (q.HOLDOUT_RMSE,),
        ),
        Panel("Since the last run", "Time since a stage last wrote to the ledger.", "s", (q.SINCE_LAST_RUN,), "figure"),
        Panel("Batches", "Batches in the ledger by state.", "short", (q.BATCHES,), "figure", 6),
        Panel(
            "Rows",
            "Listings received, kept for training, and set aside by validation, over all batches.",
            "short",
            (q.BATCH_ROWS,),
            "figure",
            6,
        ),
        Panel(
            "Decisions",
            "Batches that led to a training, and that did not; the reasons are on the page History.",
            "short",
            (q.DECISIONS,),
            "figure",
            6,
        ),
        Panel(
            "Promotions",
            "Challengers that became champion, and that were rejected.",
            "short",
            (q.PROMOTIONS,),
            "figure",
            6,
        ),
    ),
    "Pipeline": (
        Panel(
            "Heartbeats",
            "Heartbeats per second of Airflow's scheduler and DAG processor. Zero or a gap: no task starts.",
            "cps",
            (q.SCHEDULER_HEARTBEATS, q.PROCESSOR_HEARTBEATS),
        ),
        Panel(
            "Runs and tasks",
            "Running DAG runs, and tasks that the executor runs or holds.",
            "short",
            (q.DAG_RUNS_RUNNING, q.TASKS_RUNNING, q.TASKS_QUEUED),
        ),
        Panel(
            "DAG files",
            "Import errors (must be 0) and the time that reading all DAG files takes, in seconds.",
            "short",
            (q.IMPORT_ERRORS, q.PARSE_SECONDS),
        ),
    ),
    "Platform": (
        Panel(
            "Components up", "1 if Prometheus reaches the component, 0 if not.", "short", (q.TARGETS_UP,), "figure", 24
        ),
        Panel("Memory", "Working set by pod: what the kernel cannot take back.", "bytes", (q.MEMORY,)),
        Panel("Memory against its limit", "At 1 the container is killed.", "percentunit", (q.MEMORY_OF_LIMIT,)),
        Panel("CPU", "Cores in use by pod.", "short", (q.CPU,)),
        Panel(
            "Containers started again", "Restarts of containers in the last half hour, by pod.", "short", (q.STARTS,)
        ),
        Panel(
            "Disk",
            "Room on the disk that holds MinIO's volume; with local volumes it is the node's disk.",
            "bytes",
            (q.DISK_FREE, q.DISK_SIZE),
        ),
        Panel("Databases", "Size of each PostgreSQL database.", "bytes", (q.DATABASE_BYTES,)),
        Panel("Database connections", "Open connections by database.", "short", (q.DATABASE_CONNECTIONS,), width=12),
        Panel(
            "Time series",
            "Series in Prometheus' memory; grows with labels, not with time.",
            "short",
            (q.SAMPLES,),
            width=12,
        ),
    ),
}


def build() -> dict[str, Any]:
    """The dashboard as Grafana's JSON."""
    board = (
        dashboards.Dashboard("House price platform")
        .uid(UID)
        .description("From listings to prices: the service, what it learned, the pipeline, and what they run on.")
        .tags(["house-platform"])
        .time("now-1h", "now")
        .refresh("30s")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
    )
    numbers = itertools.count(1)
    for title, panels in ROWS.items():
        board.with_row(dashboards.Row(title).id(next(numbers)))
        for panel in panels:
            board.with_panel((_lines(panel) if panel.kind == "lines" else _figure(panel)).id(next(numbers)))
    built: dict[str, Any] = json.loads(json.dumps(board.build(), cls=JSONEncoder))
    return built


def panel_queries() -> dict[str, str]:
    """Every expression on the dashboard, by panel and series."""
    return {
        f"{panel.title}: {query.legend}": query.expr
        for panels in ROWS.values()
        for panel in panels
        for query in panel.queries
    }


def _targets(panel: Panel, instant: bool) -> list[Any]:
    targets = []
    for letter, query in zip("ABCDEF", panel.queries, strict=False):
        target = (
            prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(letter).datasource(PROMETHEUS)
        )
        targets.append(target.instant() if instant else target.range())
    return targets


def _lines(panel: Panel) -> timeseries.Panel:
    return (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(PROMETHEUS)
        .targets(_targets(panel, instant=False))
        .span(panel.width)
        .height(PANEL_HEIGHT)
        .min(0)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            commons.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(commons.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )


def _figure(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.description)
        .unit(panel.unit)
        .datasource(PROMETHEUS)
        .targets(_targets(panel, instant=True))
        .span(panel.width)
        .height(PANEL_HEIGHT)
        .graph_mode(common.BigValueGraphMode.NONE)
        .color_mode(common.BigValueColorMode.NONE)
        .text_mode(common.BigValueTextMode.VALUE_AND_NAME)
        .reduce_options(commons.ReduceDataOptions().calcs(["lastNotNull"]))
    )
