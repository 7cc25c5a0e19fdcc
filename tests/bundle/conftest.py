"""Bundles of small images, one for each environment, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ci.bundle.make import make
from tests.bundle.archives import argocd, every_image
from tests.kit.rendering import ENVIRONMENTS

SETTINGS = ("monitoring.grafana.enabled=false",)  # its image is in no archive here


@pytest.fixture(scope="session")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file that names the images; their archives are beside it."""
    return every_image(tmp_path_factory.mktemp("archives"))


@pytest.fixture(scope="session")
def bundles(lock: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The packed bundle of every environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOUSE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        target = tmp_path_factory.mktemp("bundles")
        source = argocd(tmp_path_factory.mktemp("argocd"))
        return {env: make(env, target, SETTINGS, lock, lock.parent, source) for env in ENVIRONMENTS}
