"""The same inputs give the same image, byte for byte."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ci.images import builders, store
from ci.images.catalog import IMAGES

IMAGE = IMAGES["datasource"]  # the smallest with a Python environment

# Names of their own, so that nothing built before is taken; the same twice, because an image records its base's name.
LOCAL, ENVIRONMENT = "house-platform/repeated:image", "house-platform/repeated:environment"


def build_from_nothing(builder: builders.Buildah, target: Path) -> str:
    """Build environment and image, export them to `target`, forget both; returns the digest."""
    tag, _ = store.tags(IMAGE, builder.prepare())
    try:
        with store._context(IMAGE.environment_sources) as context:
            arguments = builder.arguments(IMAGE) | {"SERVICE": IMAGE.name}
            builder.build(ENVIRONMENT, context / "Dockerfile", context, arguments, {})
        with store._context((IMAGE.dockerfile, *IMAGE.sources)) as context:
            arguments = {"ENVIRONMENT": builder.reference(ENVIRONMENT)}
            builder.build(LOCAL, context / IMAGE.dockerfile, context, arguments, store._labels(IMAGE, tag))
        return builder.export(LOCAL, target, store.repository("localhost/house-platform", IMAGE.name), tag)
    finally:
        for name in (LOCAL, ENVIRONMENT):
            builder._buildah("rmi", builder.reference(name), check=False)


@pytest.mark.e2e
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("buildah"), reason="needs buildah as root")
def test_two_builds_from_nothing_have_one_digest(tmp_path: Path) -> None:
    builder = builders.Buildah()
    first = build_from_nothing(builder, tmp_path / "first.tar")
    assert not builder.exists(LOCAL), "the second build would take the first one's image"
    assert not builder.exists(ENVIRONMENT), "the second build would take the first one's environment"
    assert build_from_nothing(builder, tmp_path / "second.tar") == first
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()
