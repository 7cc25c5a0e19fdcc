"""The same inputs give the same image, byte for byte."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ci.images import builders, store
from ci.images.catalog import IMAGES, Image

# The smallest with a Python environment, and the one with Debian's packages, which takes 80 s. The one with npm's
# packages takes minutes: add "prometheus" when its pages or their tools change.
REPEATED = ("datasource", pytest.param("postgres", marks=pytest.mark.long))

# Names of their own, so that nothing built before is taken; the same twice, because an image records its base's name.
LOCAL, ENVIRONMENT = "house-platform/repeated:image", "house-platform/repeated:environment"


def build_from_nothing(builder: builders.BuildahBuilder, image: Image, target: Path) -> str:
    """Build environment and image, export them to `target`, forget both; returns the digest."""
    tag, _ = store.tags(image, builder.prepare())
    try:
        arguments = builder.arguments(image)
        if image.environment:
            with store._context(image.environment_sources) as context:
                builder.build(ENVIRONMENT, context / "Dockerfile", context, arguments | {"SERVICE": image.name}, {})
            arguments = {"ENVIRONMENT": builder.reference(ENVIRONMENT)}
        with store._context((image.dockerfile, *image.sources)) as context:
            builder.build(LOCAL, context / image.dockerfile, context, arguments, store._labels(image, tag))
        return builder.export(LOCAL, target, store.repository("localhost/house-platform", image.name), tag)
    finally:
        for name in (LOCAL, ENVIRONMENT):
            builder._buildah("rmi", builder.reference(name), check=False)


@pytest.mark.e2e
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("buildah"), reason="needs buildah as root")
@pytest.mark.parametrize("name", REPEATED)
def test_two_builds_from_nothing_have_one_digest(name: str, tmp_path: Path) -> None:
    builder = builders.BuildahBuilder()
    first = build_from_nothing(builder, IMAGES[name], tmp_path / "first.tar")
    assert not builder.exists(LOCAL), "the second build would take the first one's image"
    assert not builder.exists(ENVIRONMENT), "the second build would take the first one's environment"
    assert build_from_nothing(builder, IMAGES[name], tmp_path / "second.tar") == first
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()
