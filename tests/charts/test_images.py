"""Images come from the generated file alone, by digest, and pods are traced to them; only Grafana's is foreign."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ci.console import Failure
from ci.expected import images
from predictor.settings import PredictorSettings
from tests.charts.components import environment
from tests.charts.rendering import (
    COMPONENTS,
    IMAGES,
    KUBE_API,
    VARIANTS,
    Object,
    Workload,
    alone,
    is_hook,
    objects,
    parse,
    pod_template,
    text,
    workloads,
)
from tests.charts.test_delivery import ARGO, through_argocd

BUILT = yaml.safe_load(IMAGES.read_text())["global"]["images"]
PREFIX = "house-platform/"  # of annotations
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


def test_registry_reaches_every_image(variant: str) -> None:
    """Of containers, init containers, pods that Airflow makes, and test pods; Grafana's is foreign, set by itself."""
    env, arguments = VARIANTS[variant]
    mirror = ("--set", "global.imageRegistry=registry.example:5000/mirror")
    found = images(parse(text(env, *arguments, *mirror)))
    elsewhere = [image for image in found if not image.startswith("registry.example:5000/mirror/")]
    assert [image for image in elsewhere if "grafana/grafana:" not in image] == []
    own = ("--set", f"monitoring.grafana.image=registry.example:5000/mirror/grafana:1@sha256:{'a' * 64}")
    found = images(parse(text(env, *arguments, *mirror, *own)))
    assert [image for image in found if not image.startswith("registry.example:5000/mirror/")] == []
    used = {image.removeprefix("registry.example:5000/mirror/").partition(":")[0] for image in found}
    assert used - {"grafana"} >= set(BUILT) - {"datasource"}, "images were not looked at"


def test_no_image_hides_where_nobody_looks(variant: str) -> None:
    """A name in an argument, an annotation or a file of a ConfigMap would be in no bundle, and follow no mirror."""
    env, arguments = VARIANTS[variant]
    rendered = text(env, *arguments)
    hidden = {found.rstrip(".,;") for found in re.findall(r"[\w.:/-]+/[\w./-]+:[\w.-]+@sha256:\w+", rendered)}
    hidden |= set(re.findall(rf"{reference(variant, 'ui').partition('/ui:')[0]}/[^\s\"',]+", rendered))
    assert hidden == set(images(parse(rendered)))


def test_registry_reaches_every_image_that_argocd_delivers(variant: str, tmp_path: Path) -> None:
    """The mirror as a parameter of the root Application, which hands it on to those of the components."""
    env, arguments = VARIANTS[variant]
    mirror = ("--set", "global.imageRegistry=registry.example:5000/mirror")
    delivered = [item for application in parse(text(env, *arguments, *mirror, *ARGO))
                 for item in through_argocd(application, tmp_path)]  # fmt: skip
    assert images(delivered) == images(parse(text(env, *arguments, *mirror)))


def test_every_image_that_is_built_is_used(variant: str) -> None:
    used = {container["image"] for workload in workloads(variant) for container in workload.containers}
    used |= {value for item in objects(variant) if item["kind"] == "ConfigMap"
             for value in item["data"].values() if value.startswith(reference(variant, "pipeline")[:20])}  # fmt: skip
    idle = {image for image in BUILT if reference(variant, image) not in used}
    assert idle <= ({"datasource"} if variant in ("vm", "prod") else set()), f"nothing runs {sorted(idle)}"


def origin(image: str) -> dict[str, str]:
    """The annotations of a pod whose main container runs an image."""
    return {f"{PREFIX}commit": BUILT[image]["commit"], f"{PREFIX}image-digest": BUILT[image]["digest"]}


def traced(annotations: dict[str, str]) -> dict[str, str]:
    """Those of a pod's annotations that say where its image is from."""
    return {key: value for key, value in annotations.items() if key.startswith(PREFIX)}


def test_every_pod_carries_commit_and_digest_of_its_image(workload: Workload) -> None:
    image = workload.pod["containers"][0]["image"]
    wanted = next((origin(name) for name in BUILT if reference(workload.variant, name) == image), {})
    assert wanted or workload.item["metadata"]["name"] == "grafana", f"{workload.name}: no image of this repository"
    assert traced(workload.annotations) == wanted, f"{workload.name}: take its annotations from lib.origin"


def test_airflow_knows_the_commit_of_the_image_that_its_tasks_run(variant: str) -> None:
    found = environment(variant, "airflow")
    assert (found["PIPELINE_IMAGE"], found["PIPELINE_COMMIT"]) == (
        reference(variant, "pipeline"), BUILT["pipeline"]["commit"],
    )  # fmt: skip


def test_predictor_is_told_what_it_answers_at_version(variant: str) -> None:
    [pod] = [workload for workload in workloads(variant) if workload.item["metadata"]["name"] == "fastapi"]
    told = {item["name"].lower(): item["value"] for item in pod.containers[0]["env"]}
    assert told == {
        "commit": BUILT["predictor"]["commit"],
        "image_tag": BUILT["predictor"]["tag"],
        "image_digest": BUILT["predictor"]["digest"],
    }
    assert told.keys() <= PredictorSettings.model_fields.keys(), "the predictor reads none of that name"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_pods_of_images_without_digest_and_commit_say_so(chart: str, tmp_path: Path) -> None:
    """As Docker builds them, and as an images file of before has them."""
    tags = {name: {"digest": None, "commit": None} for name in BUILT}
    (tmp_path / "tags.yaml").write_text(yaml.safe_dump({"global": {"images": tags}}))
    rendered = parse(alone(chart, *KUBE_API, "-f", str(tmp_path / "tags.yaml")))
    pods = [Workload(chart, item) for item in rendered if pod_template(item)]
    assert pods, f"{chart} renders no pods"
    for workload in pods:
        assert traced(workload.annotations) == {f"{PREFIX}commit": "unknown"}, workload.name


def test_a_job_of_another_commit_is_another_job() -> None:
    """The template of a Job cannot be changed, so what is in it must be in its name."""

    def jobs(*arguments: str) -> dict[str, Object]:
        return {
            item["metadata"]["name"]: item["spec"]
            for item in parse(text("kind", *arguments))
            if item["kind"] == "Job" and not is_hook(item)  # helm deletes a hook's Job before it makes the next one
        }

    commits = ",".join(f"global.images.{image}.commit={'a' * 40}" for image in BUILT)
    before, after = jobs(), jobs("--set", commits)
    assert len(before) == len(after) == 2
    assert not set(before) & set(after), "a Job keeps its name though its template changed"


@pytest.mark.parametrize("commit", ["main", "3f2a91b", f"{'a' * 40}-changed"])
def test_commit_that_is_none_is_refused(commit: str) -> None:
    with pytest.raises(Failure, match=r"global\.images\.ui\.commit: Does not match"):
        text("kind", "--set", f"global.images.ui.commit={commit}")


@pytest.mark.parametrize("chart", COMPONENTS)
def test_missing_image_is_refused_with_the_command_that_makes_it(chart: str) -> None:
    with pytest.raises(Failure, match=r"global\.images\.\w+ is missing: run `make images`"):
        alone(chart, *KUBE_API, "--set", "global.images=null")


def test_grafana_without_digest_is_refused() -> None:
    with pytest.raises(
        Failure, match=r"monitoring\.grafana\.image \(\\?\"grafana/grafana:12\\?\"\) has no digest: write it as"
    ):
        alone("monitoring", *KUBE_API, "--set", "grafana.enabled=true,grafana.image=grafana/grafana:12")
