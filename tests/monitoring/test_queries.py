"""Dashboard, alert rules and the page Operations use only metrics that exist. Panels have title, unit, description."""

from __future__ import annotations

from ci.monitoring import dashboard, dashboard_queries
from ci.monitoring.alerts import ALERTS
from ci.monitoring.panels import ROWS
from tests.kit.metric_names import named_metrics, own_metrics
from ui import operations

# Metrics of other programs, by exporter. Names were observed on a running platform, if no comment says otherwise.
EXTERNAL = {
    "prometheus": {"up", "prometheus_tsdb_head_series", "prometheus_sd_discovered_targets"},
    "prometheus-fastapi-instrumentator": {"http_requests_total"},
    "kubelet's cAdvisor": {
        "container_cpu_usage_seconds_total",
        "container_memory_working_set_bytes",
        "container_spec_memory_limit_bytes",
        "container_start_time_seconds",
    },
    "kubelet, for volume types with statistics": {
        "kubelet_volume_stats_used_bytes",
        "kubelet_volume_stats_capacity_bytes",
    },
    # in the kubelet's source, not observed yet: it has the first series after the first error
    "kubelet": {"kubelet_started_containers_errors_total"},
    # in its documentation, not observed yet: its image is in no environment
    "kube-state-metrics": {
        "kube_job_failed",
        "kube_job_owner",
        "kube_job_created",
        "kube_cronjob_status_last_successful_time",
    },
    "MinIO": {
        "minio_cluster_capacity_usable_free_bytes",
        "minio_cluster_capacity_usable_total_bytes",
        "minio_cluster_health_status",
    },
    "postgres_exporter": {"pg_up", "pg_database_size_bytes", "pg_stat_database_numbackends"},
    "Airflow over OTLP": {
        "airflow_scheduler_heartbeat_total",
        "airflow_dag_processor_heartbeat_total",
        "airflow_executor_running_tasks",
        "airflow_executor_queued_tasks",
        "airflow_scheduler_dagruns_running",
        "airflow_dag_processing_import_errors",
        "airflow_dag_processing_total_parse_time",
        "airflow_dagrun_duration_failed_milliseconds",
    },
}


def test_every_metric_is_exported_by_something() -> None:
    exported = own_metrics().union(*EXTERNAL.values())
    expressions = dashboard_queries() | {alert.name: alert.expr for alert in ALERTS}
    expressions |= {f"page Operations, query {at}": query for at, query in enumerate(operations.QUERIES)}
    unknown = {f"{where}: {name}" for where, expr in expressions.items() for name in named_metrics(expr) - exported}
    assert not unknown, "\n".join(sorted(unknown))


def test_every_listed_external_metric_is_used() -> None:
    used = set().union(*map(named_metrics, [*dashboard_queries().values(), *(alert.expr for alert in ALERTS)]))
    assert set().union(*EXTERNAL.values()) <= used


def test_every_panel_has_title_unit_and_description() -> None:
    for row, panels in ROWS.items():
        for panel in panels:
            assert panel.title, row
            assert panel.unit, panel.title
            assert panel.description.endswith("."), f"{panel.title}: {panel.description!r} must end with a full stop"
            assert panel.queries, panel.title
    titles = [panel.title for panels in ROWS.values() for panel in panels]
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
