"""The DAGs fit charts/airflow: environment, names, and NetworkPolicies of their pods."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from kubernetes.client import ApiClient

from ci.common.paths import CHECKOUT
from ci.deploy import charts

from .conftest import DAGS, ENVIRONMENT

if TYPE_CHECKING:
    from airflow.sdk import DAG

VALUES = ("-f", str(CHECKOUT / "values" / "kind.yaml"), "-f", str(CHECKOUT / "tests" / "kit" / "images.yaml"))
CLUSTER = ("--set", "global.kubeApi.cidr=10.46.0.1/32", "--set", "global.kubeApi.port=6443")


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """Every object of the platform."""
    charts.dependencies()
    return [item for item in yaml.safe_load_all(charts.template("platform", *VALUES, *CLUSTER)) if item]


@pytest.fixture(scope="module")
def environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    """The environment that the chart sets in the Airflow containers."""
    [data] = [o["data"] for o in objects if (o["kind"], o["metadata"]["name"]) == ("ConfigMap", "airflow")]
    return data


def named(objects: list[dict[str, Any]], kind: str, name: str, namespace: str) -> dict[str, Any]:
    [match] = [o for o in objects if (o["kind"], o["metadata"]["name"], o["metadata"].get("namespace"))
               == (kind, name, namespace)]  # fmt: skip
    return match


def test_chart_sets_every_variable_that_the_dag_reads(environment: dict[str, str]) -> None:
    variables = {name for name in environment if name.startswith("PIPELINE_")}
    assert variables == {name for name in ENVIRONMENT if name.startswith("PIPELINE_")}


def test_dag_reads_the_environment_of_the_chart(environment: dict[str, str], objects: list[dict[str, Any]]) -> None:
    code = (
        "import json, stage_pod; s = stage_pod.PodSettings.from_environment();"
        "print(json.dumps([s.image, s.namespace, s.config_map, s.secret, s.annotations]))"
    )
    settings = {**ENVIRONMENT, **{name: text for name, text in environment.items() if name.startswith("PIPELINE_")}}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=DAGS, env=settings, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    image, namespace, config_map, secret, annotations = json.loads(done.stdout.strip().splitlines()[-1])
    assert "/pipeline:" in image
    assert (namespace, config_map, secret) == ("mlops-jobs", "pipeline", "pipeline")
    [job] = [o for o in objects if o["kind"] == "Job" and o["metadata"]["name"].startswith("minio-provision")]
    assert annotations == job["spec"]["template"]["metadata"]["annotations"], (
        "the DAG and the chart annotate the same image differently"
    )


def test_every_container_of_a_dag_runs_the_image_of_the_chart(
    dags: dict[str, DAG],
) -> None:
    made = 0
    for name, dag in dags.items():
        for task in dag.tasks:
            if hasattr(task, "build_pod_request_obj"):
                pod = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(dry_run=True))["spec"]
                images = {box["name"]: box["image"] for box in [*pod.get("initContainers", []), *pod["containers"]]}
                assert set(images.values()) == {ENVIRONMENT["PIPELINE_IMAGE"]}, f"{name}.{task.task_id}: {images}"
                made += 1
    assert made > len(dags), "too few pods were checked"


def test_every_access_of_a_stage_is_granted_on_both_sides(objects: list[dict[str, Any]], pipeline_dag: DAG) -> None:
    policies = [o for o in objects if o["kind"] == "NetworkPolicy"]
    admitted = json.dumps([p["spec"].get("ingress", []) for p in policies if p["metadata"]["namespace"] == "mlops"])
    leaving = named(objects, "NetworkPolicy", "pipeline", "mlops-jobs")["spec"]["podSelector"]["matchLabels"]
    calling = named(objects, "NetworkPolicy", "pipeline-data-api", "mlops-jobs")["spec"]["podSelector"]["matchLabels"]
    for task in pipeline_dag.tasks:
        labels = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(dry_run=True))["metadata"]["labels"]
        assert leaving.items() <= labels.items(), f"{task.task_id}: no egress for {labels}"
        for label in labels:
            if label.startswith("access/") and label != "access/data-api":
                assert f'"{label}": "true"' in admitted, f"{task.task_id}: no policy admits pods with {label}"
    assert {task.task_id for task in pipeline_dag.tasks if calling.items() <= task.labels.items()} == {"fetch"}


def test_pods_of_commands_have_the_same_rights_as_those_of_stages(
    objects: list[dict[str, Any]], environment: dict[str, str], dags: dict[str, DAG]
) -> None:
    """A smoke test in a pod with other rights would prove nothing."""
    [task] = dags["house_price_rollback"].tasks
    stage = ApiClient().sanitize_for_serialization(task.build_pod_request_obj(dry_run=True))
    made = [named(objects, "PodTemplate", "pipeline", "mlops-jobs")["template"]]
    made += [named(objects, "Job", "pipeline-smoke", "mlops-jobs")["spec"]["template"]]
    for template in made:
        pod, theirs = template["spec"], stage["spec"]
        [box], [their_box] = pod["containers"], theirs["containers"]
        assert box["image"] == environment["PIPELINE_IMAGE"]
        for field in ("serviceAccountName", "automountServiceAccountToken", "restartPolicy", "volumes"):
            assert pod[field] == theirs[field], field
        assert theirs["securityContext"].items() <= pod["securityContext"].items()
        of_the_run = {"RUN_ID", "ACTOR"}
        assert {entry["name"] for entry in box["env"]} == {entry["name"] for entry in their_box["env"]} - of_the_run
        for field in ("envFrom", "securityContext", "volumeMounts", "imagePullPolicy", "terminationMessagePolicy"):
            assert box[field] == their_box[field], field
        for part in ("requests", "limits"):
            assert box["resources"][part]["memory"] == their_box["resources"][part]["memory"]
        labels, theirs = template["metadata"]["labels"], task.labels
        assert {name for name in labels if name.startswith("access/")} == {
            name for name in theirs if name.startswith("access/")
        }
        assert labels["app.kubernetes.io/name"] == theirs["app.kubernetes.io/name"]


def test_service_account_exists_without_token(objects: list[dict[str, Any]], pipeline_dag: DAG) -> None:
    for task in pipeline_dag.tasks:
        account = named(objects, "ServiceAccount", task.service_account_name, "mlops-jobs")
        assert account["automountServiceAccountToken"] is False


def test_scheduler_has_only_the_rights_that_stage_pods_need(objects: list[dict[str, Any]]) -> None:
    rules = named(objects, "Role", "airflow-scheduler", "mlops-jobs")["rules"]
    granted = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    assert granted == {
        *(("pods", verb) for verb in ("create", "get", "list", "patch", "delete")),
        ("pods/log", "get"),
        ("events", "list"),
    }
