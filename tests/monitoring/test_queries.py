"""Dashboard and rules ask only for what something exports, and every panel explains itself."""

from __future__ import annotations

import re

from ci.monitoring import dashboard, dashboard_queries
from ci.monitoring.alerts import ALERTS
from core import metrics

# What is not ours, by the program that exports it. A name here was seen on a running platform.
EXTERNAL = {
    "prometheus": {"up", "prometheus_tsdb_head_series"},
    "prometheus-fastapi-instrumentator": {"http_requests_total"},
    "kubelet's cAdvisor": {
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_spec_memory_limit_bytes",
        "container_start_time_seconds",
    },
    "kubelet, where the volume's kind has statistics": {
        "kubelet_volume_stats_used_bytes",
        "kubelet_volume_stats_capacity_bytes",
    },
    "MinIO": {
        "minio_cluster_capacity_usable_free_bytes",
        "minio_cluster_capacity_usable_total_bytes",
        "minio_cluster_health_status",
    },
    "postgres_exporter": {"pg_up", "pg_database_size_bytes", "pg_stat_database_numbackends"},
    "Airflow by OTLP": {
        "airflow_scheduler_heartbeat_total",
        "airflow_dag_processor_heartbeat_total",
        "airflow_executor_running_tasks",
        "airflow_executor_queued_tasks",
        "airflow_scheduler_dagruns_running",
        "airflow_dag_processing_import_errors",
        "airflow_dag_processing_total_parse_time",
        "airflow_dagrun_duration_failed_milliseconds_count",
    },
}
KEYWORDS = {
    "absent", "and", "bool", "by", "changes", "clamp_min", "count", "histogram_quantile", "increase", "max", "min",
    "offset", "on", "or", "rate", "sum", "time", "unless", "vector",
}  # fmt: skip


def own_metrics() -> set[str]:
    """Names that core.metrics declares, with the endings that a histogram adds."""
    names = {value for value in vars(metrics).values() if isinstance(value, str) and value.startswith("house_")}
    return names | {f"{name}_{ending}" for name in names for ending in ("bucket", "sum", "count")}


def named_metrics(expression: str) -> set[str]:
    """Metric names in an expression: words outside of strings, braces, brackets and label lists."""
    bare = re.sub(r'"[^"]*"', "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.sub(r"\b\d[\w.-]*", "", bare))) - KEYWORDS


def test_every_metric_is_exported_by_something() -> None:
    known = own_metrics().union(*EXTERNAL.values())
    asked = dashboard_queries() | {alert.name: alert.expr for alert in ALERTS}
    unknown = {f"{where}: {name}" for where, expr in asked.items() for name in named_metrics(expr) - known}
    assert not unknown, "\n".join(sorted(unknown))


def test_no_external_metric_is_listed_in_vain() -> None:
    asked = set().union(*map(named_metrics, [*dashboard_queries().values(), *(alert.expr for alert in ALERTS)]))
    assert set().union(*EXTERNAL.values()) <= asked


def test_every_panel_explains_itself() -> None:
    for row, panels in dashboard.ROWS.items():
        for panel in panels:
            assert panel.title, row
            assert panel.unit, panel.title
            assert panel.description.endswith("."), f"{panel.title}: {panel.description!r} is no sentence"
            assert panel.queries, panel.title
    titles = [panel.title for panels in dashboard.ROWS.values() for panel in panels]
    assert len(titles) == len(set(titles)), titles


def test_panels_do_not_overlap_and_ids_are_stable() -> None:
    built = dashboard.build()
    assert built["uid"] == "house-price-platform"
    ids = [panel["id"] for panel in built["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in built["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24, panel["title"]
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
