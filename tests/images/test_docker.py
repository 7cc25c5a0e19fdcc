"""Images built by a Docker engine, as users with Docker have them: BuildKit, and an archive that every node takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ci import cluster
from ci.cluster import docker
from ci.cluster.registryless import engine
from ci.common.console import run
from ci.images import builders, store
from ci.images.catalog import IMAGES, SERVICES

pytestmark = pytest.mark.e2e

IMAGE = IMAGES["datasource"]
REGISTRY = "localhost/docker-built"
PUBLIC_BASE = "docker.io/library/python:3.13-slim-trixie"  # the default of services/Dockerfile
STAND_IN = """ARG BASE
FROM ${BASE}
COPY ca.crt /etc/ssl/certs/ca-certificates.crt
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt
"""


@pytest.fixture
def engine_of_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[docker.Docker]:
    """An engine that holds the public base. Where no registry is reached, our own base stands in for it."""
    chosen = docker.choose()
    if not chosen.own:
        yield chosen
        return
    for name, value in engine.environment().items():
        monkeypatch.setenv(name, value)
    own = builders.BuildahBuilder()
    own.prepare()
    own._buildah("push", own._builder, f"docker-archive:{tmp_path / 'base.tar'}:house-test/base:1")
    run(["docker", "load", "-i", tmp_path / "base.tar"])
    (tmp_path / "base.tar").unlink()
    (tmp_path / "Dockerfile").write_text(STAND_IN)
    (tmp_path / "ca.crt").write_bytes(Path("/etc/ssl/certs/ca-certificates.crt").read_bytes())
    builders.DockerBuilder().build(PUBLIC_BASE, tmp_path / "Dockerfile", tmp_path, {"BASE": "house-test/base:1"}, {})
    yield chosen
    run(["docker", "image", "rm", "-f", PUBLIC_BASE, "house-test/base:1"], check=False)


def test_an_image_built_by_docker_runs_and_every_node_takes_it(engine_of_tests: docker.Docker) -> None:
    assert (SERVICES / "Dockerfile").read_text().count(f"ARG BASE={PUBLIC_BASE}\n") == 1
    builder = builders.DockerBuilder()
    [built] = store.build(builder, [IMAGE.name], REGISTRY)
    name = f"{REGISTRY}/{IMAGE.name}:{built.tag}"
    try:
        assert not built.digest, "an image that Docker built has a tag only"
        program = "import os, datasource.app; print(os.getuid())"
        assert run(["docker", "run", "--rm", "--network=none", name, "python", "-c", program]).stdout.split() == [
            "10001"
        ]
        cluster.import_archives([built.file])
        assert name in cluster.present_images(), "a node lacks the image"
    finally:
        run(["docker", "image", "rm", "-f", name, f"house-platform/{IMAGE.name}:{built.tag}"], check=False)
        built.file.unlink()
        built.file.with_suffix(".json").unlink()
