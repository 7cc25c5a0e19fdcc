"""The charts as helm renders them, once per set of values, and what the tests of this folder ask of the objects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from ci import charts
from ci.paths import CHECKOUT

Object: TypeAlias = dict[str, Any]

ENVIRONMENTS = ("kind", "vm", "prod")
COMPONENTS = tuple(name for name in charts.names() if name not in ("lib", "platform"))
IMAGES = Path(__file__).parent / "images.yaml"
KUBE_API = ("--set-json", 'global.kubeApi.cidr="10.46.0.1/32"')

# What no environment switches on, so that the rules hold for it, too.
PAGES = tuple(f"{name}.ingress" for name in ("airflow", "fastapi", "minio", "mlflow", "streamlit"))
PAGES += ("monitoring.ingress.grafana", "monitoring.ingress.prometheus")
EVERYTHING = (
    *("--set", "monitoring.grafana.enabled=true"),
    *("--set", "global.notifications.cidr=10.43.100.104/32,global.nodes.cidr=10.46.0.0/24"),
    *("--set", "fastapi.batch.enabled=true,minio.buckets.batch.user=batch,minio.buckets.batch.versioned=false"),
    *("--set", "fastapi.autoscaling.enabled=true,global.dataApi.cidr=10.43.100.103/32"),
    *(word for page in PAGES for word in ("--set", f"{page}.enabled=true,{page}.host={page}.house.example")),
)
VARIANTS = {env: (env, ()) for env in ENVIRONMENTS} | {"everything": ("kind", EVERYTHING)}


@cache
def _packaged() -> None:
    charts.dependencies()


@cache
def text(env: str, *arguments: str, chart: str = "platform", release: str = "mlops") -> str:
    """What helm prints for a chart with an environment's values, the stand-in images and more arguments."""
    _packaged()
    values = ("-f", str(CHECKOUT / "values" / f"{env}.yaml"), "-f", str(IMAGES), *KUBE_API)
    return charts.template(chart, *values, *arguments, release=release)


@cache
def alone(chart: str, *arguments: str, release: str = "mlops") -> str:
    """What helm prints for one component without any environment."""
    _packaged()
    return charts.template(chart, "-f", str(IMAGES), *arguments, release=release)


def parse(manifest: str) -> list[Object]:
    """The objects of a manifest; a key that stands twice in one map is an error, which PyYAML alone would swallow."""
    return [item for item in yaml.load_all(manifest, Loader=_Strict) if item]


@cache
def objects(variant: str) -> list[Object]:
    """Every object of an environment, or of the variant that has everything switched on."""
    env, arguments = VARIANTS[variant]
    return parse(text(env, *arguments))


def name(item: Object) -> str:
    """As `Deployment mlops/fastapi`."""
    space = item["metadata"].get("namespace")
    return f"{item['kind']} {space + '/' if space else ''}{item['metadata']['name']}"


def pod_template(item: Object) -> Object | None:
    """The pods that an object makes, or of which pods are made by hand."""
    spec = item if item["kind"] == "PodTemplate" else item.get("spec", {})
    found: Object | None = spec.get("jobTemplate", {}).get("spec", spec).get("template")
    return found


def is_hook(item: Object) -> bool:
    """Whether an object comes with `helm test` only."""
    return "helm.sh/hook" in item["metadata"].get("annotations", {})


@dataclass(frozen=True)
class Workload:
    """An object that makes pods, and their template."""

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
        assert template, f"{self.name} makes no pods"
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
    """Everything in a variant that makes pods."""
    return (Workload(variant, item) for item in objects(variant) if pod_template(item))


def every_workload() -> list[Workload]:
    """Everything that makes pods, of every variant."""
    return [workload for variant in VARIANTS for workload in workloads(variant)]


def find(items: list[Object], kind: str, wanted: str, namespace: str | None = "mlops") -> Object:
    """The one object of this kind and name."""
    found = [i for i in items if (i["kind"], i["metadata"]["name"], i["metadata"].get("namespace"))
             == (kind, wanted, namespace)]  # fmt: skip
    assert len(found) == 1, f"{len(found)} objects {kind} {namespace}/{wanted}, not one"
    return found[0]


class _Strict(yaml.SafeLoader):
    """Refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {key for key in keys if keys.count(key) > 1}
        assert not twice, f"{sorted(twice)} twice in one map at {node.start_mark}"
        return super().construct_mapping(node, deep)
