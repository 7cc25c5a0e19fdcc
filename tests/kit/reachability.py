"""The connections that NetworkPolicies allow: the one table, for the rendered charts and for a real cluster.

`tests/charts/test_reachability.py` compares it with the policies of every environment, and
`tests/e2e/test_reachability.py` with connections of pods.
"""

from __future__ import annotations

API_SERVER = "API server"  # its own address, which is not an address of a pod
OUTSIDE = "outside"  # an address outside of the cluster
DNS = "DNS"  # the cluster's DNS pods, over TCP

# Clients that no chart installs: (namespace, further labels). `jobs` is the namespace of the pipeline.
FOREIGN: dict[str, tuple[str, dict[str, str]]] = {
    "client of the predictor": ("platform", {"access/fastapi": "true"}),
    "stranger": ("platform", {}),
    "stranger among the stages": ("jobs", {}),
}
# The pod of the stage `fetch` is like the pods of the other stages, with these labels (services/airflow/dags).
FETCH = {"access/data-api": "true", "access/datasource": "true"}

_PREDICTOR = {"fastapi:8000", "fastapi-pods:8000"}
_STAGE = {"postgres:5432", "minio:9000", "mlflow:5000"}

# By label app.kubernetes.io/name of the client: the ports of Services that it reaches. Every client also reaches DNS,
# except for the strangers.
REACHES: dict[str, set[str]] = {
    "airflow-api": {"postgres:5432", "minio:9000", "prometheus:9090"},
    "airflow-clean": {"postgres:5432"},
    "airflow-dag-processor": {"postgres:5432", "prometheus:9090"},
    "airflow-migrate": {"postgres:5432"},
    "airflow-scheduler": {"postgres:5432", "minio:9000", "airflow-api:8080", "prometheus:9090", API_SERVER},
    "alertmanager": set(),
    "backup": {"postgres:5432", "minio:9000"},
    "datasource": set(),
    "fastapi": {"mlflow:5000", "postgres:5432", *_PREDICTOR},
    "fastapi-batch": {"mlflow:5000", "postgres:5432", "minio:9000"},
    "grafana": {"prometheus:9090"},
    "kube-state-metrics": {API_SERVER},
    "minio": set(),
    "minio-provision": {"minio:9000"},
    "mlflow": {"postgres:5432", "minio:9000"},
    "oauth2-proxy": {"streamlit:8501", "prometheus:9090", "mlflow:5000", "airflow-api:8080"},
    "pipeline": _STAGE,
    "fetch": {*_STAGE, "datasource:8000"},
    "postgres": set(),
    "postgres-exporter": {"postgres:5432"},
    "prometheus": {
        *("minio:9000", "mlflow:5000", "streamlit:8501", "datasource:8000", "alertmanager:9093", "grafana:3000"),
        *(
            "postgres-exporter:9187",
            "kube-state-metrics:8080",
            "oauth2-proxy:4101",
            "oauth2-proxy:4102",
            "oauth2-proxy:4103",
            "oauth2-proxy:4104",
            *_PREDICTOR,
            API_SERVER,
        ),
    },
    "streamlit": {"prometheus:9090", *_PREDICTOR},
    "client of the predictor": _PREDICTOR,
    "stranger": set(),
    "stranger among the stages": set(),
}


def expected(client: str, targets: set[str]) -> set[str]:
    """The targets that a client reaches. A target that is not installed does not count."""
    reached = REACHES[client] if client.startswith("stranger") else REACHES[client] | {DNS}
    return reached & targets
