"""Renders the charts with helm, once per set of values, and gives access to the objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from ci.common.paths import CHECKOUT
from ci.deploy import charts

Object: TypeAlias = dict[str, Any]

ENVIRONMENTS = ("kind", "vm", "prod")
COMPONENTS = tuple(name for name in charts.names() if name not in ("lib", "platform"))
IMAGES = Path(__file__).parent / "images.yaml"
KUBE_API = ("--set-json", 'global.kubeApi.cidr="10.46.0.1/32"')

# Options that no environment enables. The variant `everything` enables them, so that the tests cover them.
PAGES = tuple(f"{name}.ingress" for name in ("airflow", "fastapi", "minio", "mlflow", "streamlit"))
PAGES += ("monitoring.ingress.grafana", "monitoring.ingress.prometheus")
# Pages without a login of their own, and all pages whose Ingress leads to oauth2-proxy.
WITHOUT_LOGIN = ("streamlit.ingress", "monitoring.ingress.prometheus")
BEHIND_LOGIN = (*WITHOUT_LOGIN, "mlflow.ingress", "airflow.ingress")
# The predictor has a login if `fastapi.config.requireApiKey` is true.
OPEN_PAGES = ("fastapi.ingress", *WITHOUT_LOGIN)
ON = {"enabled": True}
EMAIL = {"to": "team@house.example", "from": "alerts@house.example", "smarthost": "smtp.house.example:587"}
RECEIVERS = {
    "webhook": {**ON, "port": 8443},
    "slack": ON,
    "email": {**ON, **EMAIL, "username": "alerts"},
    "heartbeat": ON,
    "privateAuthority": True,
}
JOB_STATES = f"registry.example/kube-state-metrics:v2@sha256:{'0' * 64}"  # this repository names no image of it
EVERYTHING = (
    *("--set", "monitoring.grafana.enabled=true"),
    *("--set", f"monitoring.kubeStateMetrics.enabled=true,monitoring.kubeStateMetrics.image={JOB_STATES}"),
    *("--set", "global.notifications.cidr=10.43.100.104/32,global.nodes.cidr=10.46.0.0/24"),
    *("--set-json", f"monitoring.alertmanager.receivers={json.dumps(RECEIVERS)}"),
    *("--set", "fastapi.batch.enabled=true,minio.buckets.batch.user=batch,minio.buckets.batch.versioned=false"),
    *("--set", "global.backup.enabled=true"),
    *("--set", "fastapi.autoscaling.enabled=true,global.dataApi.cidr=10.43.100.103/32"),
    *(word for page in PAGES for word in ("--set", f"{page}.enabled=true,{page}.host={page}.house.example")),
    *("--set", "fastapi.ingress.iKnowThisIsOpen=true,global.login.plainHttp=true"),
)
VARIANTS = {env: (env, ()) for env in ENVIRONMENTS} | {"everything": ("kind", EVERYTHING)}


@cache
def _packaged() -> None:
    charts.dependencies()


@cache
def text(env: str, *arguments: str, chart: str = "platform", release: str = "mlops") -> str:
    """Output of `helm template` with the values of an environment, test images and more arguments."""
    _packaged()
    values = ("-f", str(CHECKOUT / "values" / f"{env}.yaml"), "-f", str(IMAGES), *KUBE_API)
    return charts.template(chart, *values, *arguments, release=release)


@cache
def alone(chart: str, *arguments: str, release: str = "mlops") -> str:
    """Output of `helm template` for one component without the values of an environment."""
    _packaged()
    return charts.template(chart, "-f", str(IMAGES), *arguments, release=release)


def parse(manifest: str) -> list[Object]:
    """The objects of a manifest. A duplicate key is an error; PyYAML alone would ignore it."""
    return [item for item in yaml.load_all(manifest, Loader=_Strict) if item]


@cache
def objects(variant: str) -> list[Object]:
    """Every object of an environment, or of the variant `everything`."""
    env, arguments = VARIANTS[variant]
    return parse(text(env, *arguments))


def name(item: Object) -> str:
    """Example: `Deployment mlops/fastapi`."""
    space = item["metadata"].get("namespace")
    return f"{item['kind']} {space + '/' if space else ''}{item['metadata']['name']}"


def pod_template(item: Object) -> Object | None:
    """The pod template of an object, including a PodTemplate for pods that are created by hand."""
    spec = item if item["kind"] == "PodTemplate" else item.get("spec", {})
    template: Object | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return template


def is_hook(item: Object) -> bool:
    """True for objects that only `helm test` creates."""
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


@dataclass(frozen=True)
class Workload:
    """An object that creates pods, with its pod template."""

    variant: str
    item: Object

    @property
    def name(self) -> str:
        return name(self.item)

    @property
    def namespace(self) -> str:
        return str(self.item["metadata"]["namespace"])

    @property
    def kind(self) -> str:
        return str(self.item["kind"])

    @property
    def _template(self) -> Object:
        template = pod_template(self.item)
        assert template, f"{self.name} creates no pods"
        return template

    @property
    def labels(self) -> dict[str, str]:
        labels: dict[str, str] = self._template["metadata"]["labels"]
        return labels

    @property
    def annotations(self) -> dict[str, str]:
        annotations: dict[str, str] = self._template["metadata"].get("annotations", {})
        return annotations

    @property
    def pod(self) -> Object:
        pod: Object = self._template["spec"]
        return pod

    @property
    def containers(self) -> list[Object]:
        return [*self.pod.get("initContainers", []), *self.pod["containers"]]

    def __str__(self) -> str:
        return f"{self.variant}-{self.kind}-{self.item['metadata']['name']}"


def workloads(variant: str) -> Iterator[Workload]:
    """All objects of a variant that create pods."""
    return (Workload(variant, item) for item in objects(variant) if pod_template(item))


def every_workload() -> list[Workload]:
    """All objects of all variants that create pods."""
    return [workload for variant in VARIANTS for workload in workloads(variant)]


def find(items: list[Object], kind: str, wanted: str, namespace: str | None = "mlops") -> Object:
    """The object of this kind and name; fails unless there is exactly one."""
    matches = [i for i in items if (i["kind"], i["metadata"]["name"], i["metadata"].get("namespace"))
             == (kind, wanted, namespace)]  # fmt: skip
    assert len(matches) == 1, f"{len(matches)} objects {kind} {namespace}/{wanted}, expected one"
    return matches[0]


class _Strict(yaml.CSafeLoader):
    """Rejects duplicate keys. Based on libyaml, which parses ten times as fast as the Python parser."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        duplicates = {key for key in keys if keys.count(key) > 1}
        assert not duplicates, f"duplicate keys {sorted(duplicates)} at {node.start_mark}"
        return super().construct_mapping(node, deep)
