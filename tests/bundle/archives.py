"""Small archives of everything that a bundle holds: every image of the catalog, and Argo CD."""

from __future__ import annotations

import json
from pathlib import Path

from ci.bundle.argocd import Source
from ci.common.paths import CHECKOUT
from ci.images import values
from ci.images.catalog import IMAGES
from ci.images.values import Entry
from tests.kit.image_archives import image

COMMIT = "c" * 40


def every_image(folder: Path) -> Path:
    """Archives of all images of the catalog; returns the file that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {name: Entry("0.1.0-abc", image(folder, name, "0.1.0-abc", {}), COMMIT) for name in IMAGES}
    lock = folder / "images.yaml"
    lock.write_text(values.render(entries))
    return lock


def argocd(folder: Path) -> Source:
    """Argo CD as its build leaves it, with a small image and short manifests."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = image(folder, "argocd", "3.6.1-abc", {})
    archived = folder / "argocd-3.6.1-abc.tar"
    archived.with_suffix(".json").write_text(json.dumps({"name": f"localhost/argocd:3.6.1-abc@{digest}"}))
    return Source(archived, CHECKOUT / "tests/ci/argocd-install.yaml")
