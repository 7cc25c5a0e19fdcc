"""PromQL expressions of the dashboard, apart from the panels that show them.

The names of our own metrics come from `core.metrics`. Each expression returns data on a platform that has completed a
run and received a true price, with only the exporters that the charts install (an e2e test asks Prometheus).
"""

from __future__ import annotations

from dataclasses import dataclass

from core import metrics as m


@dataclass(frozen=True)
class Query:
    """An expression and the legend of its series, in Grafana's format (`{{label}}`)."""

    expr: str
    legend: str


# Prometheus keeps only the platform's own namespaces. cAdvisor also reports whole pods, without `container`; they would
# count twice.
CONTAINERS = 'container!=""'
# The routes by which people and programs get prices and send true prices.
USED = 'job="fastapi", handler=~"/predict|/explain|/feedback"'


def quantile(share: float, histogram: str, by: str = "le") -> str:
    """Expression of a quantile (`share`, 0 to 1) of a histogram over the last five minutes."""
    return f"histogram_quantile({share}, sum by ({by}) (rate({histogram}_bucket[5m])))"


# --- service
REQUESTS = Query(f"sum by (handler, status) (rate(http_requests_total{{{USED}}}[5m]))", "{{handler}} {{status}}")
PRICES_ANSWERED = Query(f"sum by (outcome) (rate({m.PREDICTIONS}[5m]))", "{{outcome}}")
LATENCY_P50 = Query(quantile(0.5, m.PREDICT_SECONDS, "handler, le"), "{{handler}} p50")
LATENCY_P99 = Query(quantile(0.99, m.PREDICT_SECONDS, "handler, le"), "{{handler}} p99")
ERROR_SHARE = Query(  # 0 for a route without a failure
    f'(sum by (handler) (rate(http_requests_total{{{USED}, status=~"4xx|5xx"}}[5m]))'
    f" or 0 * sum by (handler) (rate(http_requests_total{{{USED}}}[5m])))"
    f" / clamp_min(sum by (handler) (rate(http_requests_total{{{USED}}}[5m])), 1e-9)",
    "{{handler}}",
)
MODEL_VERSION = Query(f"count by (name, version) ({m.MODEL_INFO})", "{{name}} v{{version}}")
PRICE_MEDIAN = Query(quantile(0.5, m.PREDICTION_PRICE), "median")
PRICE_P95 = Query(quantile(0.95, m.PREDICTION_PRICE), "p95")
LOGGED = Query(f"sum by (outcome) (rate({m.PREDICTION_LOG_ROWS}[5m]))", "{{outcome}}")
NOT_LOGGED = Query(f"sum by (reason) (rate({m.PREDICTION_LOG_DROPPED}[5m]))", "lost: {{reason}}")
LOG_QUEUED = Query(f"sum by (instance) ({m.PREDICTION_LOG_QUEUED})", "{{instance}}")
LOG_SPILLED = Query(f"max({m.PREDICTION_LOG_SPILL_BYTES})", "on disk")
LOG_SECONDS = Query(quantile(0.99, m.PREDICTION_LOG_SECONDS), "p99")
REFRESHES = Query(f"sum by (outcome) (increase({m.MODEL_REFRESH}[5m]))", "{{outcome}}")

# --- shadow
SHADOW_MEDIAN = Query(quantile(0.5, m.SHADOW_DIFFERENCE), "median")
SHADOW_P95 = Query(quantile(0.95, m.SHADOW_DIFFERENCE), "p95")
SHADOW_BIAS = Query(
    f'sum(rate({m.SHADOW_DOLLARS}{{model="challenger"}}[5m]))'
    f' / sum(rate({m.SHADOW_DOLLARS}{{model="champion"}}[5m])) - 1',
    "challenger above champion",
)
SHADOW_LISTINGS = Query(f"sum by (outcome) (rate({m.SHADOW_LISTINGS}[5m]))", "{{outcome}}")

# --- learning: each replica of the predictor reads these from the ledger, so use `max`, never `sum`
BATCHES = Query(f"max by (state) ({m.BATCHES})", "{{state}}")
BATCH_ROWS = Query(f"max by (kind) ({m.BATCH_ROWS})", "{{kind}}")
DECISIONS = Query(f"max by (decision) ({m.DECISIONS})", "{{decision}}")
PROMOTIONS = Query(f"max by (outcome) ({m.PROMOTIONS})", "{{outcome}}")
HOLDOUT_MAE = Query(f"max by (model) ({m.HOLDOUT_MAE})", "{{model}}")
HOLDOUT_RMSE = Query(f"max by (model) ({m.HOLDOUT_RMSE})", "{{model}}")
FEEDBACK = Query(f"max by (version) ({m.FEEDBACK})", "v{{version}}")
LIVE_MAE = Query(f"max by (version) ({m.LIVE_MAE})", "v{{version}}")
LIVE_MEDIAN_APE = Query(f"max by (version) ({m.LIVE_MEDIAN_APE})", "v{{version}}")
LIVE_COVERAGE = Query(f"max by (version) ({m.LIVE_COVERAGE})", "v{{version}}")
SINCE_LAST_RUN = Query(f"time() - max({m.LAST_RUN} > 0)", "since the last run")

# --- pipeline: Airflow pushes these over OTLP; only the scheduler and the DAG processor live long enough for rates
SCHEDULER_HEARTBEATS = Query("sum(rate(airflow_scheduler_heartbeat_total[5m]))", "scheduler")
PROCESSOR_HEARTBEATS = Query("sum(rate(airflow_dag_processor_heartbeat_total[5m]))", "DAG processor")
TASKS_RUNNING = Query("max(airflow_executor_running_tasks)", "running")
TASKS_QUEUED = Query("max(airflow_executor_queued_tasks)", "queued")
DAG_RUNS_RUNNING = Query("max(airflow_scheduler_dagruns_running)", "DAG runs")
IMPORT_ERRORS = Query("max(airflow_dag_processing_import_errors)", "import errors")
PARSE_SECONDS = Query("max(airflow_dag_processing_total_parse_time)", "parse time")

# --- platform
TARGETS_UP = Query("min by (job) (up)", "{{job}}")
CPU = Query(f"sum by (pod) (rate(container_cpu_usage_seconds_total{{{CONTAINERS}}}[5m]))", "{{pod}}")
MEMORY = Query(f"sum by (pod) (container_memory_working_set_bytes{{{CONTAINERS}}})", "{{pod}}")
MEMORY_OF_LIMIT = Query(
    f"max by (pod, container) (container_memory_working_set_bytes{{{CONTAINERS}}})"
    f" / max by (pod, container) (container_spec_memory_limit_bytes{{{CONTAINERS}}} > 0)",
    "{{pod}} {{container}}",
)
STARTS = Query(
    f"sum by (pod) (changes(max by (pod, container) (container_start_time_seconds{{{CONTAINERS}}})[30m:1m]))", "{{pod}}"
)
DISK_FREE = Query("min(minio_cluster_capacity_usable_free_bytes)", "free on MinIO's volume")
DISK_SIZE = Query("min(minio_cluster_capacity_usable_total_bytes)", "size of MinIO's volume")
DATABASE_BYTES = Query('max by (datname) (pg_database_size_bytes{datname!~"template.*"})', "{{datname}}")
DATABASE_CONNECTIONS = Query('sum by (datname) (pg_stat_database_numbackends{datname!=""})', "{{datname}}")
SAMPLES = Query("max(prometheus_tsdb_head_series)", "series")
