"""The bundle installs the platform on a node that has no image of it and reaches nothing: nothing is pulled."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ci import platform, runs, up
from ci.argocd import __main__ as argocd
from ci.bundle.argocd import built
from ci.bundle.make import make
from ci.cluster import onenode, settings
from ci.console import run, say
from ci.images import values
from ci.images.__main__ import REGISTRY
from ci.kube import PLATFORM, get, kube
from tests.bundle.conftest import unpack

from .egress import cut

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(not onenode.exists(), reason="only of the one-node cluster is it known how to cut it off"),
]
CTR = ["ctr", "-a", str(settings.SOCKET), "-n", "k8s.io"]


@pytest.fixture(scope="module", params=["", "--argocd"], ids=["helm", "argocd"])
def way(request: pytest.FixtureRequest) -> list[str]:
    """The option of install.sh that says who delivers."""
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
    """A cluster without the platform, without Argo CD and without their images, cut off; what was there is removed."""
    if "applications.argoproj.io" in kube("get", "crd", "-o", "name"):
        argocd.remove()
    platform.remove()
    forget_images()
    with cut() as refused:
        yield refused


def images() -> set[str]:
    """Images of the platform in the node's store."""
    return {name for name in onenode.present_images() if name.startswith(f"{REGISTRY}/")}


def forget_images() -> None:
    if names := images():
        run([*CTR, "images", "rm", "--sync", *names])
    assert not images()


def install(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """install.sh as an operator of the one-node cluster calls it."""
    environment = {
        "PATH": f"{onenode.kubectl().parent}:{os.environ['PATH']}",
        "CONTAINERD_ADDRESS": str(settings.SOCKET),
        "KUBECONFIG": str(settings.kubeconfig_path()),
    }
    words = [str(folder / "install.sh"), *options]
    return subprocess.run(words, cwd="/", env=environment, capture_output=True, text=True, check=False, timeout=900)


def state() -> dict[str, object]:
    """Everything that an install could touch."""
    names = ("pods", "secrets", "configmaps", "deployments", "statefulsets", "jobs")
    found = get("-n", PLATFORM, ",".join(names))["items"]
    made = {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["uid"] for item in found}
    return {"images": images(), "objects": made, "release": platform.release()}


def pulls() -> dict[str, int]:
    """What the kubelet did for an image, as its events tell."""
    told = {"Pulling": 0, "Failed": 0, "Pulled": 0}
    for event in get("events", "-A")["items"]:
        if event.get("reason") in told and "image" in event.get("message", "").lower():
            told[event["reason"]] += event.get("count") or 1
    return told


def test_flipped_byte_is_refused_before_anything_is_touched(folder: Path, closed: Callable[[], int]) -> None:
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
    say(f"events of images since: {after}; packets that the cut refused: {closed()}")
    assert (after["Pulling"], after["Failed"]) == (0, 0)
    assert after["Pulled"] > 0, "no event says that an image was there already"
    named = {f"{REGISTRY}/{name}:{entry.tag}" for name, entry in values.read("kind").items()}
    assert named <= images()


def test_same_bundle_again_changes_nothing(folder: Path, closed: Callable[[], int], way: list[str]) -> None:
    before, began = state(), time.monotonic()
    done = install(folder, *way)
    say(f"again: {time.monotonic() - began:.0f} s\n{done.stdout}")
    assert done.returncode == 0, done.stderr
    assert state() == before
