"""The alert rules. Each becomes one file and has a runbook of the same name in charts/monitoring/runbooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from ci.monitoring.queries import CONTAINERS, USED, quantile
from core import metrics as m


@dataclass(frozen=True)
class Alert:
    """One Prometheus alert.

    Severity `critical`: requests fail or data may be lost, act now. `warning`: act today. `info`: no action needed.
    `none`: not a problem; only `Watchdog`, which always fires.
    `for_` is the time that `expr` must hold before the alert fires.
    """

    name: str
    severity: Literal["critical", "warning", "info", "none"]
    expr: str
    for_: str
    summary: str
    description: str

    def rules(self) -> dict[str, Any]:
        """The rule file of this alert, in the format of Prometheus."""
        rule = {
            "alert": self.name,
            "expr": self.expr,
            "for": self.for_,
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": f"charts/monitoring/runbooks/{self.name}.md",
            },
        }
        return {"groups": [{"name": self.name, "rules": [rule]}]}


# A component without pods may have no series of `up` at all, so `up == 0` does not find it. This gauge of Prometheus
# has a value for every scrape job of its configuration, also for a job without targets. Its series with the name
# "notify" count Alertmanagers.
_JOBS = 'prometheus_sd_discovered_targets{name="scrape",'


def _no_series(job: str) -> str:
    """Expression: the job is configured, but has no target."""
    return f'max by (config) ({_JOBS} config="{job}"}}) unless on () up{{job="{job}"}}'


# Airflow exports its timers as native histograms. Series with the suffix _count do not exist.
_FAILED_RUNS = "airflow_dagrun_duration_failed_milliseconds"
# Failed means that the Job has given up. kube_job_status_failed also counts attempts before a success.
_FAILED_JOB = 'kube_job_failed{condition="true"} == 1'
_OF_CRONJOB = 'kube_job_owner{owner_kind="CronJob"}'
# Jobs of a CronJob that were created before its last success ended. They run one at a time, so that success is newer.
# Before its first success, a CronJob has no series of that time.
_OVERTAKEN = (
    f"{_OF_CRONJOB} * on (namespace, owner_name) group_left ()"
    ' label_replace(kube_cronjob_status_last_successful_time, "owner_name", "$1", "cronjob", "(.+)")'
    " > on (namespace, job_name) kube_job_created"
)

ALERTS = (
    # --- service
    Alert(
        "PredictorDown",
        "critical",
        f"{_no_series('fastapi')} == 1",
        "2m",
        "No pod of the predictor answers",
        "All pods are gone or do not answer, so there are no prices, and no predictions are logged.",
    ),
    Alert(
        "PredictorNoModel",
        "critical",
        f'up{{job="fastapi"}} == 1 unless on (instance) {m.MODEL_INFO}',
        "10m",
        "{{ $labels.instance }} has no model",
        "The predictor has run without a model for ten minutes. It answers every request with 503.",
    ),
    Alert(
        "PredictorErrorRate",
        "critical",
        # Each route on its own: the page of people asks for few prices, whose failures vanish among those of programs.
        f'sum by (handler) (rate(http_requests_total{{{USED}, status="5xx"}}[5m]))'
        f" / sum by (handler) (rate(http_requests_total{{{USED}}}[5m])) > 0.05",
        "5m",
        "{{ $value | humanizePercentage }} of the calls of POST {{ $labels.handler }} fail",
        "More than 5 % of the calls have failed with 5xx for five minutes. Invalid input (4xx) does not count.",
    ),
    Alert(
        "PredictorLatencyHigh",
        "warning",
        f"{quantile(0.99, m.PREDICT_SECONDS, 'handler, le')} > 1",
        "10m",
        "The p99 latency of POST {{ $labels.handler }} is {{ $value | humanizeDuration }}",
        "The 99th percentile of the latency of this route has been above one second for ten minutes.",
    ),
    Alert(
        "ModelRefreshFailing",
        "warning",
        f'sum by (instance) (increase({m.MODEL_REFRESH}{{outcome=~"unreachable|failed|refused"}}[15m])) > 0'
        f' unless sum by (instance) (increase({m.MODEL_REFRESH}{{outcome=~"current|loaded"}}[15m])) > 0',
        "5m",
        "{{ $labels.instance }} cannot follow the champion",
        "Every check of the registry has failed for 15 minutes. The predictor continues with the loaded model.",
    ),
    Alert(
        "LedgerDown",
        "warning",
        f"min({m.LEDGER_UP}) == 0",
        "5m",
        "The predictor cannot reach the ledger",
        "Predictions work and their log waits on disk, but feedback is refused and the page History is empty.",
    ),
    Alert(
        "BatchesMissing",
        "warning",
        f"max({m.BATCH_GAPS}) > 0",
        "30m",
        "Batches of the data API are missing ({{ $value }})",
        "They were lost or could not be used. The pipeline gets them again at the end of the data.",
    ),
    Alert(
        "InvalidPrices",
        "warning",
        f"max by (source) ({m.INVALID_PRICES}) > 0",
        "10m",
        "{{ $value }} row(s) of ledger.{{ $labels.source }} have an impossible price",
        "No figure counts these rows. New ones are refused, so an earlier release or a person has written them.",
    ),
    Alert(
        "PredictionsLost",
        "critical",
        f"sum by (instance, reason) (increase({m.PREDICTION_LOG_DROPPED}[15m])) > 0",
        "0m",
        "{{ $labels.instance }} lost {{ $value | humanize }} rows of the prediction log ({{ $labels.reason }})",
        "Predictions work, but these rows are not in the ledger and cannot be recovered.",
    ),
    Alert(
        "PredictionLogWaiting",
        "warning",
        f"max({m.PREDICTION_LOG_SPILL_BYTES}) > 0",
        "15m",
        "{{ $value | humanize1024 }}B of the prediction log wait on disk",
        "The ledger has not accepted the prediction log for 15 minutes. When the folder is full, rows are lost.",
    ),
    # --- pipeline
    Alert(
        "SchedulerHeartbeatMissing",
        "critical",
        # Pushed twice a minute. With a longer range or time, a notification would come later than five minutes.
        "absent(sum(rate(airflow_scheduler_heartbeat_total[3m])) > 0)",
        "1m",
        "Airflow's scheduler sends no heartbeat",
        "No task starts, and nothing watches the running stages.",
    ),
    Alert(
        "DagProcessorHeartbeatMissing",
        "warning",
        "absent(sum(rate(airflow_dag_processor_heartbeat_total[3m])) > 0)",
        "1m",
        "Airflow's DAG processor sends no heartbeat",
        "Running stages go on, but changes of DAG files have no effect, and after a while Airflow starts no runs.",
    ),
    Alert(
        "AirflowApiDown",
        "critical",
        # It has no metrics that Prometheus could scrape. Without a kubelet's answer, nothing is known about containers.
        'absent(container_start_time_seconds{pod=~"airflow-api-.*", container="api"})'
        ' unless on () absent(up{job="cadvisor"} == 1)',
        "3m",
        "No pod of Airflow's API server runs",
        "Airflow's pages are away, and every task fails, because tasks report to the API server.",
    ),
    Alert(
        "PipelineRunFailed",
        "warning",
        # The second half detects the first failure after a start: increase() misses a counter that begins at 1.
        f"sum by (dag_id) (histogram_count(increase({_FAILED_RUNS}[30m]))) > 0"
        f" or sum by (dag_id) (histogram_count({_FAILED_RUNS} unless {_FAILED_RUNS} offset 30m)) > 0",
        "0m",
        "A run of {{ $labels.dag_id }} failed",
        "A stage failed in all its retries. Its log in Airflow ends with the reason.",
    ),
    Alert(
        "PipelineStalled",
        "warning",
        f"max({m.UNDECIDED}) > 0",
        "2h",
        "{{ $value }} batch(es) wait for a decision",
        "A batch was stored at least two hours ago, and no run has decided on it.",
    ),
    Alert(
        "BatchNotStored",
        "warning",
        f'max({m.BATCHES}{{state="received"}}) > 0',
        "30m",
        "{{ $value }} received batch(es) are not stored",
        "The data API has sent a batch, but its rows did not reach the object store within half an hour.",
    ),
    Alert(
        "NoRunLately",
        "info",
        f"time() - max({m.LAST_RUN} > 0) > 2 * 86400",
        "10m",
        "No pipeline run for {{ $value | humanizeDuration }}",
        "No stage has written to the ledger for two days: there is no schedule, or every run fails at once.",
    ),
    Alert(
        "BackupTooOld",
        "critical",
        f'time() - max by (kind) ({m.LAST_BACKUP}{{kind="full"}}) > 26 * 3600'
        f' or time() - max by (kind) ({m.LAST_BACKUP}{{kind="wal"}}) > 3600',
        "15m",
        "The last {{ $labels.kind }} backup is too old",
        "There has been no verified full backup for 26 hours, or no copy of the WAL and the objects for one hour; or "
        "there has never been one. A loss of the volumes now would lose everything since then.",
    ),
    Alert(
        "DagImportError",
        "critical",
        "max(airflow_dag_processing_import_errors) > 0",
        "3m",
        "Airflow cannot import {{ $value }} DAG file(s)",
        "Airflow cannot import a DAG file. Runs of that DAG do not start.",
    ),
    # --- platform
    Alert(
        "Watchdog",
        "none",
        "vector(1)",
        "0m",
        "Alerting works",
        "This alert always fires. A receiver that misses it knows that Prometheus or Alertmanager is down.",
    ),
    Alert(
        "ComponentDown",
        "warning",
        f'max by (job) (label_replace({_JOBS} config!~"fastapi|minio"}}, "job", "$1", "config", "(.+)"))'
        " unless on (job) up == 1",
        "3m",
        "No target of {{ $labels.job }} answers",
        "All targets of the job are gone or do not answer. Predictor, PostgreSQL and MinIO have alerts of their own.",
    ),
    Alert(
        "TargetDown",
        "warning",
        "up == 0",
        "5m",
        "{{ $labels.job }} ({{ $labels.instance }}) does not answer",
        "Prometheus has not reached it for five minutes: it is down, or a NetworkPolicy blocks the connection.",
    ),
    Alert(
        "PostgresDown",
        "critical",
        "pg_up == 0",  # an exporter that does not answer says nothing about the server: TargetDown
        "2m",
        "PostgreSQL is down",
        "Airflow and MLflow stop, and nothing is recorded. The predictor continues with the loaded model.",
    ),
    Alert(
        "MinioDown",
        "critical",
        f'minio_cluster_health_status == 0 or up{{job="minio"}} == 0 or {_no_series("minio")}',
        "2m",
        "The object store is down",
        "Stages have no data, and MLflow cannot serve models. The predictor continues with the loaded model.",
    ),
    Alert(
        "VolumeAlmostFull",
        "warning",
        "1 - min(minio_cluster_capacity_usable_free_bytes) / min(minio_cluster_capacity_usable_total_bytes) > 0.75"
        " or max by (namespace, persistentvolumeclaim)"
        " (kubelet_volume_stats_used_bytes / kubelet_volume_stats_capacity_bytes) > 0.75",
        "10m",
        "{{ with $labels.persistentvolumeclaim }}{{ . }}{{ else }}The disk under MinIO{{ end }} is"
        " {{ $value | humanizePercentage }} full",
        "Local volumes have no size limit of their own. On a full disk the node evicts its pods.",
    ),
    Alert(
        "PodRestarting",
        "warning",
        "sum by (namespace, pod) (changes(max by (namespace, pod, container)"
        f" (container_start_time_seconds{{{CONTAINERS}}})[30m:1m])) > 2",
        "0m",
        "{{ $labels.pod }} restarted {{ $value }} times in half an hour",
        "A container of the pod keeps exiting and is restarted each time.",
    ),
    Alert(
        "JobFailed",
        "warning",
        # One alert per CronJob: each round has another job_name, and would be another alert.
        f"max by (namespace, owner_name) ({_OF_CRONJOB} and on (namespace, job_name) ({_FAILED_JOB})"
        f" unless on (namespace, job_name) ({_OVERTAKEN}))"
        f" or max by (namespace, job_name) (({_FAILED_JOB}) unless on (namespace, job_name) {_OF_CRONJOB})",
        "1m",
        "{{ with $labels.owner_name }}A Job of the CronJob {{ . }}{{ else }}The Job {{ $labels.job_name }}{{ end }}"
        " in {{ $labels.namespace }} failed",
        "It failed in all its attempts. The alert ends when a newer Job of the CronJob succeeds, or when the failed "
        "Job is removed.",
    ),
    Alert(
        "ImagePullFailing",
        "warning",
        # A kubelet counts every attempt, also those that it puts off (ImagePullBackOff), but names no pod. A single
        # failed attempt is outside of the range before the alert fires.
        'sum by (instance) (increase(kubelet_started_containers_errors_total{code=~"ErrImage.*|ImagePullBackOff'
        '|ImageInspectError|InvalidImageName|RegistryUnavailable"}[4m])) > 0',
        "5m",
        "The node {{ $labels.instance }} cannot get the image of a container",
        "A pod of this node does not start: its image is not on the node, and its registry does not give it.",
    ),
    Alert(
        "MemoryNearLimit",
        "warning",
        f"max by (namespace, pod, container) (container_memory_working_set_bytes{{{CONTAINERS}}})"
        f" / max by (namespace, pod, container) (container_spec_memory_limit_bytes{{{CONTAINERS}}} > 0) > 0.9",
        "10m",
        "{{ $labels.pod }} ({{ $labels.container }}) uses {{ $value | humanizePercentage }} of its memory limit",
        "Kubernetes kills the container when it reaches the limit.",
    ),
)
