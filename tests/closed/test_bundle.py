"""The bundle installs the platform without a pull, on nodes without images and without access to the outside."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci.argocd import actions as argocd
from ci.bundle.argocd import built
from ci.bundle.make import make
from ci.cluster import containers, docker, settings
from ci.cluster.choice import choose
from ci.common.console import say
from ci.common.kube import PLATFORM, get, kube
from ci.deploy import helm_release, platform, runs, up
from ci.images import values
from ci.images.catalog import REGISTRY
from tests.kit.bundles import unpack

from .egress import cut

pytestmark = pytest.mark.e2e
ENGINE = docker.choose()


@pytest.fixture(scope="module", params=["", "--argocd"], ids=["helm", "argocd"])
def way(request: pytest.FixtureRequest) -> list[str]:
    """Options of install.sh: none for Helm, or `--argocd`."""
    return [request.param] if request.param else []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle of this checkout, Argo CD included."""
    began = time.monotonic()
    packed = make("kind", tmp_path_factory.mktemp("bundle"), argocd=built())
    say(f"{packed.name}: {packed.stat().st_size / 1e6:,.0f} MB, made in {time.monotonic() - began:.0f} s")
    return unpack(packed, tmp_path_factory.mktemp("unpacked"))


@pytest.fixture(scope="module")
def closed(folder: Path, way: list[str]) -> Iterator[Callable[[], int]]:
    """Remove the platform, Argo CD and their images, and cut the cluster off from the outside."""
    if "applications.argoproj.io" in kube("get", "crd", "-o", "name"):
        argocd.remove()
    platform.remove()
    forget_images()
    with cut(ENGINE) as refused:
        yield refused


def images() -> set[str]:
    """Images of the platform on any node."""
    return {name for node in containers.nodes(ENGINE) for name in _on(node)}


def _on(node: str) -> list[str]:
    names = ENGINE.run("exec", node, "ctr", "-n", "k8s.io", "images", "ls", "-q").split()
    return [name for name in names if name.startswith(f"{REGISTRY}/")]


def forget_images() -> None:
    for node in containers.nodes(ENGINE):
        if names := _on(node):
            ENGINE.run("exec", node, "ctr", "-n", "k8s.io", "images", "rm", "--sync", *names)
    assert not images()


def install(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run install.sh like an operator of the kind cluster."""
    environment = {
        **{name: ENGINE.environment[name] for name in ("DOCKER_HOST",) if name in ENGINE.environment},
        "PATH": f"{choose().kubectl().parent}:{ENGINE.environment['PATH']}",
        "KIND_CLUSTER": settings.NAME,
        "KUBECONFIG": str(settings.kubeconfig_path()),
    }
    words = [str(folder / "install.sh"), *options]
    return subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=900)


def state() -> dict[str, object]:
    """Images, objects and release: everything that an install could change."""
    names = ("pods", "secrets", "configmaps", "deployments", "statefulsets", "jobs")
    items = get("-n", PLATFORM, ",".join(names))["items"]
    uids = {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"] for item in items}
    return {"images": images(), "objects": uids, "release": helm_release.release()}


def pulls() -> dict[str, int]:
    """Number of the kubelet's events about images, by reason."""
    counts = {"Pulling": 0, "Failed": 0, "Pulled": 0}
    for event in get("events", "-A")["items"]:
        if event.get("reason") in counts and "image" in event.get("message", "").lower():
            counts[event["reason"]] += event.get("count") or 1
    return counts


def test_bundle_with_a_flipped_byte_is_refused_before_any_change(folder: Path, closed: Callable[[], int]) -> None:
    archive = folder / "images" / "images.tar"
    middle = archive.stat().st_size // 2

    def flip() -> None:
        with archive.open("r+b") as file:
            file.seek(middle)
            byte = file.read(1)[0]
            file.seek(middle)
            file.write(bytes([byte ^ 1]))

    before = state()
    flip()
    try:
        done = install(folder)
    finally:
        flip()
    say(done.stderr.strip())
    assert done.returncode == 1
    assert "images/images.tar" in done.stderr
    assert state() == before


def test_bundle_installs_without_a_pull(folder: Path, closed: Callable[[], int], way: list[str]) -> None:
    before, began = pulls(), time.monotonic()
    done = install(folder, *way)
    say(f"install.sh {' '.join(way)} took {time.monotonic() - began:.0f} s:\n{done.stdout}{done.stderr}")
    assert done.returncode == 0
    with runs.airflow() as client:
        runs.run_once(client)
    assert up.predict()["price"]
    after = {name: count - before[name] for name, count in pulls().items()}
    say(f"events of images since: {after}; packets refused: {closed()}")
    assert (after["Pulling"], after["Failed"]) == (0, 0)
    assert after["Pulled"] > 0, "no event reports an image that was already present"
    expected = {f"{REGISTRY}/{name}:{entry.tag}" for name, entry in values.read("kind").items()}
    for node in containers.nodes(ENGINE):
        assert expected <= set(_on(node)), node


def test_same_bundle_again_changes_nothing(folder: Path, closed: Callable[[], int], way: list[str]) -> None:
    before, began = state(), time.monotonic()
    done = install(folder, *way)
    say(f"again: {time.monotonic() - began:.0f} s\n{done.stdout}")
    assert done.returncode == 0, done.stderr
    assert state() == before
