"""All images but those of FOREIGN come from the images file, by digest, and annotations trace pods to them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from ci.common.console import Failure
from ci.doctor.rendered import images
from predictor.settings import PredictorSettings
from tests.charts.applications import ARGO, through_argocd
from tests.charts.components import environment
from tests.kit.rendering import (
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

BUILT = yaml.safe_load(IMAGES.read_text())["global"]["images"]
PREFIX = "house-platform/"  # of annotations
FOREIGN = {"grafana", "kube-state-metrics"}  # this repository does not build these images; values name them
REGISTRY = {"kind": "localhost/house-platform", "everything": "localhost/house-platform"}


def reference(variant: str, image: str) -> str:
    """Full reference of an image of this repository in a variant."""
    registry = REGISTRY.get(variant, "ghcr.io/house-platform")
    return f"{registry}/{image}:{BUILT[image]['tag']}@{BUILT[image]['digest']}"


def test_container_runs_an_image_of_the_generated_file(workload: Workload) -> None:
    own = {reference(workload.variant, image) for image in BUILT}
    for container in workload.containers:
        where = f"{workload.name}: {container['name']}"
        if workload.item["metadata"]["name"] in FOREIGN:
            assert re.search(r":[^:@]+@sha256:[0-9a-f]{64}$", container["image"]), f"{where}: {container['image']}"
        else:
            assert container["image"] in own, f"{where}: {container['image']} is not in global.images"
        assert container["imagePullPolicy"] == "IfNotPresent", f"{where}: imagePullPolicy"


def test_registry_reaches_every_image(variant: str) -> None:
    """`global.imageRegistry` applies to containers, init containers, pods that Airflow creates, and test pods.

    The images of FOREIGN have values of their own."""
    env, arguments = VARIANTS[variant]
    mirror = ("--set", "global.imageRegistry=registry.example:5000/mirror")
    rendered_images = images(parse(text(env, *arguments, *mirror)))
    elsewhere = [image for image in rendered_images if not image.startswith("registry.example:5000/mirror/")]
    assert {re.sub(r":.*", "", image.rsplit("/", 1)[-1]) for image in elsewhere} <= FOREIGN
    digest = f"1@sha256:{'a' * 64}"
    own = ("--set", f"monitoring.grafana.image=registry.example:5000/mirror/grafana:{digest}")
    own += ("--set", f"monitoring.kubeStateMetrics.image=registry.example:5000/mirror/kube-state-metrics:{digest}")
    rendered_images = images(parse(text(env, *arguments, *mirror, *own)))
    assert [image for image in rendered_images if not image.startswith("registry.example:5000/mirror/")] == []
    used = {image.removeprefix("registry.example:5000/mirror/").partition(":")[0] for image in rendered_images}
    assert used - FOREIGN >= set(BUILT) - {"datasource"}, "the test did not see all images"


def test_no_image_is_named_in_other_places(variant: str) -> None:
    """An image in an argument, an annotation or a ConfigMap file would be missing in bundles and ignore mirrors."""
    env, arguments = VARIANTS[variant]
    rendered = text(env, *arguments)
    hidden = {image.rstrip(".,;") for image in re.findall(r"[\w.:/-]+/[\w./-]+:[\w.-]+@sha256:\w+", rendered)}
    hidden |= set(re.findall(rf"{reference(variant, 'ui').partition('/ui:')[0]}/[^\s\"',]+", rendered))
    assert hidden == set(images(parse(rendered)))


def test_registry_reaches_every_image_that_argocd_delivers(variant: str, tmp_path: Path) -> None:
    """The root Application passes the registry on to the Applications of the components."""
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
    assert idle <= ({"datasource"} if variant in ("vm", "prod") else set()), f"no pod uses {sorted(idle)}"


def origin(image: str) -> dict[str, str]:
    """Expected annotations of a pod whose main container runs an image."""
    return {f"{PREFIX}commit": BUILT[image]["commit"], f"{PREFIX}image-digest": BUILT[image]["digest"]}


def traced(annotations: dict[str, str]) -> dict[str, str]:
    """The annotations of a pod that trace its image."""
    return {key: value for key, value in annotations.items() if key.startswith(PREFIX)}


def test_every_pod_carries_commit_and_digest_of_its_image(workload: Workload) -> None:
    image = workload.pod["containers"][0]["image"]
    wanted = next((origin(name) for name in BUILT if reference(workload.variant, name) == image), {})
    assert wanted or workload.item["metadata"]["name"] in FOREIGN, f"{workload.name}: no image of this repository"
    assert traced(workload.annotations) == wanted, f"{workload.name}: take its annotations from lib.origin"


def test_airflow_knows_the_commit_of_the_image_that_its_tasks_run(variant: str) -> None:
    variables = environment(variant, "airflow")
    assert (variables["PIPELINE_IMAGE"], variables["PIPELINE_COMMIT"]) == (
        reference(variant, "pipeline"), BUILT["pipeline"]["commit"],
    )  # fmt: skip


def test_predictor_gets_its_version_and_the_folder_of_client_keys(variant: str) -> None:
    [pod] = [workload for workload in workloads(variant) if workload.item["metadata"]["name"] == "fastapi"]
    variables = {item["name"].lower(): item["value"] for item in pod.containers[0]["env"]}
    assert variables == {
        "commit": BUILT["predictor"]["commit"],
        "image_tag": BUILT["predictor"]["tag"],
        "image_digest": BUILT["predictor"]["digest"],
        "client_keys_dir": "/clients",
    }
    assert variables.keys() <= PredictorSettings.model_fields.keys(), "the predictor does not read them"


@pytest.mark.parametrize("chart", COMPONENTS)
def test_images_without_digest_and_commit_are_annotated_as_unknown(chart: str, tmp_path: Path) -> None:
    """Docker builds such images, and older images files have such entries."""
    tags = {name: {"digest": None, "commit": None} for name in BUILT}
    (tmp_path / "tags.yaml").write_text(yaml.safe_dump({"global": {"images": tags}}))
    rendered = parse(alone(chart, *KUBE_API, "-f", str(tmp_path / "tags.yaml")))
    pods = [Workload(chart, item) for item in rendered if pod_template(item)]
    assert pods, f"{chart} renders no pods"
    for workload in pods:
        assert traced(workload.annotations) == {f"{PREFIX}commit": "unknown"}, workload.name


def test_another_commit_creates_another_job() -> None:
    """The template of a Job is immutable, so its name must change with its content."""

    def jobs(*arguments: str) -> dict[str, Object]:
        return {
            item["metadata"]["name"]: item["spec"]
            for item in parse(text("kind", *arguments))
            if item["kind"] == "Job"
            and not is_hook(item)  # helm deletes the Job of a hook before it creates the next one
        }

    commits = ",".join(f"global.images.{image}.commit={'a' * 40}" for image in BUILT)
    before, after = jobs(), jobs("--set", commits)
    assert len(before) == len(after) == 2
    assert not set(before) & set(after), "a Job keeps its name though its template changed"


@pytest.mark.parametrize("commit", ["main", "3f2a91b", f"{'a' * 40}-changed"])
def test_invalid_commit_is_refused(commit: str) -> None:
    with pytest.raises(Failure, match=r"global\.images\.ui\.commit: Does not match"):
        text("kind", "--set", f"global.images.ui.commit={commit}")


@pytest.mark.parametrize("chart", COMPONENTS)
def test_missing_image_fails_with_the_command_that_builds_it(chart: str) -> None:
    with pytest.raises(Failure, match=r"global\.images\.[\w-]+ is missing: run `make images`"):
        alone(chart, *KUBE_API, "--set", "global.images=null")


def test_grafana_without_digest_is_refused() -> None:
    with pytest.raises(
        Failure, match=r"monitoring\.grafana\.image \(\\?\"grafana/grafana:12\\?\"\) has no digest: set it to"
    ):
        alone("monitoring", *KUBE_API, "--set", "grafana.enabled=true,grafana.image=grafana/grafana:12")
