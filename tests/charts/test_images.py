"""Images come from the generated file alone, by digest; Grafana's, the only foreign one, by its own digest."""

from __future__ import annotations

import re

import pytest
import yaml

from ci.console import Failure
from tests.charts.rendering import COMPONENTS, IMAGES, KUBE_API, Workload, alone, objects, workloads

BUILT = yaml.safe_load(IMAGES.read_text())["global"]["images"]
REGISTRY = {"kind": "localhost/house-platform", "everything": "localhost/house-platform"}


def reference(variant: str, image: str) -> str:
    """What an image of this repository is called in a variant."""
    registry = REGISTRY.get(variant, "ghcr.io/house-platform")
    return f"{registry}/{image}:{BUILT[image]['tag']}@{BUILT[image]['digest']}"


def test_container_runs_an_image_of_the_generated_file(workload: Workload) -> None:
    own = {reference(workload.variant, image) for image in BUILT}
    for container in workload.containers:
        where = f"{workload.name}: {container['name']}"
        if workload.item["metadata"]["name"] == "grafana":
            assert re.search(r":[^:@]+@sha256:[0-9a-f]{64}$", container["image"]), f"{where}: {container['image']}"
        else:
            assert container["image"] in own, f"{where}: {container['image']} is not in global.images"
        assert container["imagePullPolicy"] == "IfNotPresent", f"{where}: imagePullPolicy"


def test_every_image_that_is_built_is_used(variant: str) -> None:
    used = {container["image"] for workload in workloads(variant) for container in workload.containers}
    used |= {value for item in objects(variant) if item["kind"] == "ConfigMap"
             for value in item["data"].values() if value.startswith(reference(variant, "pipeline")[:20])}  # fmt: skip
    idle = {image for image in BUILT if reference(variant, image) not in used}
    assert idle <= ({"datasource"} if variant in ("vm", "prod") else set()), f"nothing runs {sorted(idle)}"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_missing_image_is_refused_with_the_command_that_makes_it(chart: str) -> None:
    with pytest.raises(Failure, match=r"global\.images\.\w+ is missing: run `make images`"):
        alone(chart, *KUBE_API, "--set", "global.images=null")


def test_grafana_without_digest_is_refused() -> None:
    with pytest.raises(
        Failure, match=r"monitoring\.grafana\.image \(\\?\"grafana/grafana:12\\?\"\) has no digest: write it as"
    ):
        alone("monitoring", *KUBE_API, "--set", "grafana.enabled=true,grafana.image=grafana/grafana:12")
