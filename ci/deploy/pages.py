"""Prints the address of each page of the platform."""

from __future__ import annotations

from ci.common.console import Failure, say
from ci.common.kube import PLATFORM, get, kubeconfig, node_addresses
from ci.deploy.workloads import NOT_INSTALLED

PAGES = {
    "predictions (HTTP)": ("fastapi", 8000, "/docs"),
    "prices and history": ("streamlit", 8501, ""),
    "pipeline (Airflow)": ("airflow-api", 8080, ""),
    "models (MLflow)": ("mlflow", 5000, ""),
    "data (MinIO)": ("minio", 9001, ""),
    "metrics (Prometheus)": ("prometheus", 9090, ""),
    "alerts (Alertmanager)": ("alertmanager", 9093, ""),
    "dashboards (Grafana)": ("grafana", 3000, ""),
}


def show() -> None:
    """Print the address of each page: direct if this machine routes to Services, and by a tunnel.

    Raises:
        Failure: the platform is not installed.
    """
    services = {
        item["metadata"]["name"]: item["spec"]["clusterIP"] for item in get("-n", PLATFORM, "services")["items"]
    }
    if not services:
        raise Failure(NOT_INSTALLED)
    direct = (
        len(node_addresses()) < 2
    )  # with several nodes, NetworkPolicies deny access from a node to pods of other nodes
    say("pages (direct from the cluster's machine, or by tunnel from anywhere):" if direct else "pages, by tunnel:")
    for page, (service, port, path) in PAGES.items():
        if service in services:
            address = f"http://{services[service]}:{port}{path}"
            if services[service] == "None":
                address = "(headless)"
            shown = f"{address:<34} " if direct else ""
            print(f"  {page:<22} {shown}kubectl -n {PLATFORM} port-forward svc/{service} {port}")
    if "grafana" not in services:
        print("  no dashboards page: Grafana is disabled, because its image needs a container registry")
    if kubeconfig():
        print("  kubectl and its kubeconfig: `eval $(.venv/bin/python -m ci.cluster env)`")
    names = "airflow-login mlflow minio grafana oauth2-proxy"
    print(f"  logins: `kubectl -n {PLATFORM} get secret {names} -o yaml` (base64)", flush=True)
