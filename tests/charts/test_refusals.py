"""Wrong values fail before anything is installed, with their path and the fix."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.deploy import charts
from tests.kit.rendering import COMPONENTS, KUBE_API, alone, text

# values of the umbrella, as JSON, and the text that the error must contain
CASES = {
    # unknown keys
    "fastapi.config.modelNmae='house-price'": "fastapi:\n- config: Additional property modelNmae is not allowed",
    "fastapi.replica=3": "fastapi:\n- (root): Additional property replica is not allowed",
    "monitoring.grafana.image_=''": "monitoring:\n- grafana: Additional property image_ is not allowed",
    "airflow.pipeline.config.modelNam='x'": "Additional property modelNam is not allowed",
    "postgress.storage.size='1Gi'": "platform:\n- (root): Additional property postgress is not allowed",
    "global.imageregistry='x'": "global: Additional property imageregistry is not allowed",
    "global.images.airflow.tagg='x'": "global.images.airflow: Additional property tagg is not allowed",
    # `enabled` accepts false only
    "monitoring.enabled=true": "monitoring.enabled does not match: false",
    "datasource.enabled=true": "datasource.enabled does not match: false",
    # values of a wrong type or format
    "direct='yes'": "direct: Invalid type. Expected: boolean",
    "fastapi.config.pollSeconds='soon'": "fastapi:\n- config.pollSeconds: Invalid type. Expected: number",
    "fastapi.config.logLevel='loud'": "config.logLevel: config.logLevel must be one of",
    "fastapi.config.mlflowTrackingUri='mlflow:5000'": "config.mlflowTrackingUri: Does not match pattern",
    "fastapi.resources.limits.memory='256MB'": "resources.limits.memory: Does not match pattern",
    "fastapi.replicas=0": "replicas: Must be greater than or equal to 1",
    "postgres.storage.size='big'": "storage.size: Does not match pattern",
    "airflow.pipeline.config.minMaeGain=2": "pipeline.config.minMaeGain: Must be less than",
    "airflow.pipeline.schedule='hourly'": "pipeline.schedule: Does not match pattern",
    "global.kubeApi.cidr='10.46.0.1'": "global.kubeApi.cidr: Does not match pattern",
    "global.images.airflow.tag='latest'": "global.images.airflow.tag",
    "global.images.airflow.digest='sha256:12'": "global.images.airflow.digest: Does not match pattern",
    # checks that a schema cannot express
    "fastapi.resources.limits.memory='64Mi'": (
        "fastapi.resources.limits.memory (64Mi) is below requests.memory (160Mi): raise the limit or lower the request"
    ),
    "postgres.backup.keep=0": "backup.keep: Must be greater than or equal to 1",
    "postgres.backup.resources.limits.memory='8Mi'": "postgres.backup.resources.limits.memory (8Mi) is below",
    "postgres.exporterResources.limits.memory='8Mi'": "postgres.exporterResources.limits.memory (8Mi) is below",
    "postgres.connectionLimits.airflow=60": (
        "postgres.connectionLimits allow 120 connections, and postgres.settings.max_connections (115) less 3 for the "
        "superuser are fewer: raise the setting, or lower a limit"
    ),
    "postgres.connectionLimits.mlflow=0": "connectionLimits.mlflow: Must be greater than or equal to 1",
    'postgres.clients.ledger=["auditor"]': "postgres.clients.ledger: postgres.roles has no role auditor",
    'postgres.clients.sales=["predictor"]': "postgres.clients.sales: postgres.databases has no database sales",
    "postgres.roles.auditor=''": "postgres.connectionLimits.auditor is missing: set the number of connections that",
    "airflow.schedulerResources.limits.memory='0.1Gi'": "airflow.schedulerResources.limits.memory (0.1Gi) is below",
    "minio.resources.limits.memory='32Mi'": "minio.resources.limits.memory (32Mi) is below",
    "monitoring.alertmanager.resources.limits.memory='8Mi'": (
        "monitoring.alertmanager.resources.limits.memory (8Mi) is below"
    ),
    "fastapi.autoscaling={'enabled': true, 'minReplicas': 9}": (
        "fastapi.autoscaling.minReplicas (9) is above maxReplicas (6): raise maxReplicas or lower minReplicas"
    ),
    "fastapi.config.shadowShare=1.5": "config.shadowShare: Must be less than or equal to 1",
    "fastapi.config.shadowAlias='champion'": (
        "fastapi.config.shadowAlias (champion) is the same as fastapi.config.modelAlias: set"
    ),
    "airflow.pipeline.config.shadowAlias='champion'": (
        "airflow.pipeline.config.shadowAlias (champion) is the same as airflow.pipeline.config.modelAlias: set"
    ),
    "fastapi.ingress={'enabled': true, 'iKnowThisIsOpen': true}": (
        "fastapi: ingress.host is empty: set the host name of this page, or set ingress.enabled to false"
    ),
    "monitoring.ingress.prometheus={'enabled': true, 'iKnowThisIsOpen': true}": (
        "prometheus: ingress.host is empty: set the host"
    ),
    # an Ingress without a login (test_open_pages.py has the ways out)
    "streamlit.ingress={'enabled': true, 'host': 'a.example'}": (
        "streamlit.ingress.tlsSecret is empty, so the login would send passwords in plain text: set it to"
    ),
    "fastapi.ingress={'enabled': true, 'host': 'a.example'}": (
        "fastapi.ingress has no login behind it: set fastapi.config.requireApiKey to true, set an annotation in"
    ),
    "streamlit.ingress.iKnowThisIsOpen='yes'": "ingress.iKnowThisIsOpen: Invalid type. Expected: boolean",
    "oauth2-proxy.oidc={'issuerUrl': 'https://login.example'}": (
        "oauth2-proxy.oidc.clientId is empty: set it to the id of this client at the identity provider\n  - "
        "oauth2-proxy.oidc.cidr is empty: set it to the network of the identity provider, for example 10.43.100.106/32"
        "\n  - global.login.groups has no group for the page airflow-api, so nobody could use it: set at least one of "
        "viewer, operator, admin\n  - global.login.groups has no group for the page mlflow, so nobody could use it: "
    ),
    "oauth2-proxy.oidc.issuerUrl='login.example'": "oidc.issuerUrl: Does not match pattern",
    "global.login.groups={'admin': ['CN=admins,OU=g,DC=h']}": "global.login.groups.admin.0: Does not match pattern",
    "global.login.groups={'admin': ['house-admins']}": (
        "global.login.groups is set, but oauth2-proxy.oidc.issuerUrl is empty: set it to the URL of the identity"
    ),
    "oauth2-proxy.oidc.scope='email'": "oidc.scope: Does not match pattern",
    "oauth2-proxy.sessionHours=0": "sessionHours: Must be greater than or equal to 1",
    "mlflow.ingress.iKnowThisIsOpen=true": "ingress: Additional property iKnowThisIsOpen is not allowed",
    "monitoring.grafana={'enabled': true, 'image': ''}": (
        'monitoring.grafana.image ("") has no digest: set it to docker.io/grafana/grafana:<version>@sha256:<digest>'
    ),
    "monitoring.kubeStateMetrics={'enabled': true}": (
        'monitoring.kubeStateMetrics.image ("") has no digest: set it to <registry>/kube-state-metrics:<version>@'
    ),
    "monitoring.kubeStateMetrics.resources.limits.memory='8Mi'": (
        "monitoring.kubeStateMetrics.resources.limits.memory (8Mi) is below"
    ),
    # receivers of alerts
    "monitoring.alertmanager.receivers.pager.enabled=true": "Additional property pager is not allowed",
    "monitoring.alertmanager.receivers.webhook.url='https://x'": "Additional property url is not allowed",
    "monitoring.alertmanager.receivers.webhook.enabled='yes'": "webhook.enabled: Invalid type. Expected: boolean",
    "monitoring.alertmanager.receivers.webhook.port=0": "receivers.webhook.port: Must be greater than or equal to 1",
    "monitoring.alertmanager.receivers.email.smarthost='smtp.house.example'": "email.smarthost: Does not match pattern",
    "monitoring.alertmanager.receivers.email.to='the team'": "receivers.email.to: Does not match pattern",
    "global.notifications.cidr='smtp.house.example'": "global.notifications.cidr: Does not match pattern",
    "monitoring.alertmanager.receivers.slack.enabled=true": (
        "global.notifications.cidr is empty, so the NetworkPolicy stops every notification to "
        "monitoring.alertmanager.receivers.slack: set it to the network of the receivers, for example 10.43.100.104/32"
    ),
    "monitoring.alertmanager.receivers.email.enabled=true": (
        "monitoring.alertmanager.receivers.email.smarthost is empty: set it, for example to smtp.house.example:587, or "
        "set receivers.email.enabled to false"
    ),
    "monitoring.alertmanager={'config': {'route': {}}, 'receivers': {'webhook': {'enabled': true}}}": (
        "monitoring.alertmanager.config replaces the whole configuration, so monitoring.alertmanager.receivers.webhook "
        "has no effect: set monitoring.alertmanager.config to {}, or turn the receiver off"
    ),
    "global.kubeApi.cidr=''": (
        "global.kubeApi.cidr is empty: set it to the API server's address, for example 10.46.0.1/32"
    ),
    "global.images={'airflow': null}": "global.images.airflow: Invalid type",
}


@pytest.mark.parametrize("case", CASES)
def test_wrong_value_fails_with_path_and_fix(case: str) -> None:
    with pytest.raises(Failure) as refused:
        text("kind", "--set-json", case.replace("'", '"'))
    assert CASES[case] in str(refused.value)


def test_all_errors_of_a_component_appear_in_one_failure() -> None:
    with pytest.raises(Failure) as refused:
        text("kind", "--set", "fastapi.resources.limits.memory=64Mi", "--set-json",
             'fastapi.autoscaling={"enabled": true, "minReplicas": 9}')  # fmt: skip
    assert "2 invalid value(s)" in str(refused.value)
    assert "resources.limits.memory" in str(refused.value)
    assert "autoscaling.minReplicas" in str(refused.value)


def test_missing_images_file_fails_with_the_command_that_writes_it() -> None:
    with pytest.raises(Failure, match=r"\.\w+ is missing: run `make images`, which writes values/images-<env>\.yaml"):
        charts.template("platform", "-f", str(CHECKOUT / "values" / "kind.yaml"), *KUBE_API)


def test_argocd_without_a_repository_fails() -> None:
    with pytest.raises(Failure, match=r"argocd\.repoUrl is empty: set it to the Git repository that Argo CD reads"):
        text("kind", "--set", "direct=false")


@pytest.mark.parametrize("chart", ["airflow", "monitoring"])
def test_component_that_calls_the_kubernetes_api_requires_its_address(chart: str) -> None:
    with pytest.raises(Failure, match=r"global\.kubeApi\.cidr is empty: set it to the API server's address"):
        alone(chart)


def _schemas(schema: dict[str, Any], at: str = "") -> dict[str, dict[str, Any]]:
    schemas = {at: schema}
    for key, below in schema.get("properties", {}).items():
        schemas |= _schemas(below, f"{at}.{key}".strip("."))
    return schemas


@pytest.mark.parametrize("chart", [*COMPONENTS, "platform"])
def test_schema_refuses_unknown_keys(chart: str) -> None:
    """Except in maps that an operator fills in (buckets, annotations, Alertmanager's configuration)."""
    schema = json.loads((CHECKOUT / "charts" / chart / "values.schema.json").read_text())
    open_maps = {
        at
        for at, part in _schemas(schema).items()
        if part.get("type") == "object" and "properties" in part and part.get("additionalProperties") is not False
    }
    foreign = set(COMPONENTS) if chart == "platform" else set()  # the component's own schema checks these
    assert open_maps <= foreign, f"charts/{chart}: values.schema.json accepts unknown keys in {sorted(open_maps)}"


@pytest.mark.parametrize("chart", [*COMPONENTS, "platform"])
def test_schema_and_values_have_the_same_keys(chart: str) -> None:
    """A key that is only in the schema is an option without documentation."""
    schema = json.loads((CHECKOUT / "charts" / chart / "values.schema.json").read_text())
    values = yaml.safe_load((CHECKOUT / "charts" / chart / "values.yaml").read_text())
    reserved = {"lib"} | ({"global"} if chart != "platform" else set(COMPONENTS))
    assert not (difference := _compare(schema, values, schema.get("definitions", {}), reserved)), difference


def _compare(
    schema: dict[str, Any], values: Any, shared: dict[str, Any], reserved: set[str], at: str = ""
) -> list[str]:
    if "$ref" in schema:
        schema = shared[schema["$ref"].rsplit("/", 1)[-1]]
    if not isinstance(values, dict) or "properties" not in schema:
        return []
    in_schema, in_values = set(schema["properties"]) - reserved, set(values)
    wrong = [
        f"{at}.{key} is in the schema only"
        for key in in_schema - in_values
        if at.rsplit(".", 1)[-1] not in ("requests", "limits")
    ]
    wrong += [f"{at}.{key} is in values.yaml only" for key in in_values - in_schema]
    for key in in_schema & in_values:
        wrong += _compare(schema["properties"][key], values[key], shared, reserved, f"{at}.{key}")
    return wrong
