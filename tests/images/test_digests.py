"""Every image of a registry is named by its digest, except for the listed ones.

The digest of an image is the hash of its content. A tag can move to other content. The images that this repository
builds have their digests in `values/images-<env>.yaml`: `tests/charts/test_images.py` checks them in every rendered
object.
"""

from __future__ import annotations

import re
from pathlib import Path

from ci.common.git import git
from ci.common.paths import CHECKOUT

FOLDERS = ("services", "charts", "ci", "values", "argocd", ".github", "Makefile")
TEXTS = ("", ".Dockerfile", ".conf", ".py", ".sh", ".toml", ".tpl", ".yaml", ".yml")
# registry/name:tag, with or without a digest; `kindest/` is on Docker Hub
REFERENCE = re.compile(
    r"(?<![\w/.@-])((?:(?:[a-z0-9-]+\.)+[a-z]+|kindest)/[a-z0-9._/-]+:[A-Za-z0-9][\w.-]*)(@sha256:[0-9a-f]{64})?(?![\w:])"
)
BASE = "a default of `docker build`, where a registry is reached: nobody here can read its digest without one"
# Images that are named by a tag only, each with its reason.
BY_TAG = {
    "docker.io/library/debian:trixie-slim": BASE,
    "docker.io/library/golang:1.26-trixie": BASE,
    "docker.io/library/node:24-trixie-slim": BASE,
    "docker.io/library/python:3.13-slim-trixie": BASE,
    "registry.k8s.io/metrics-server/metrics-server:v0.9.0": "as above; the nodes of our own image bring it, not pulled",
    "registry.k8s.io/pause:3.10.2": "is part of our own node image under this name, and never pulled",
}


def references() -> dict[str, set[str]]:
    """Every reference of an image, with the files that have it."""
    images: dict[str, set[str]] = {}
    for name in git(CHECKOUT, "ls-files", *FOLDERS).splitlines():
        path = Path(name)
        if path.suffix in TEXTS and (CHECKOUT / path).is_file():
            for image, digest in REFERENCE.findall((CHECKOUT / path).read_text(errors="replace")):
                images.setdefault(image + digest, set()).add(name)
    return images


def test_every_image_of_a_registry_has_a_digest() -> None:
    by_tag = {image: sorted(files) for image, files in references().items() if "@" not in image}
    wrong = {image: files for image, files in by_tag.items() if image not in BY_TAG}
    assert not wrong, f"no digest: {wrong}: append @sha256:..., or give a reason in BY_TAG"
    assert not (idle := BY_TAG.keys() - by_tag.keys()), f"not named by tag any more: {sorted(idle)}"


def test_pinned_images_are_detected() -> None:
    """Otherwise the test above would pass because it reads nothing."""
    pinned = {image.partition("@")[0].rpartition(":")[0] for image in references() if "@" in image}
    assert pinned == {"docker.io/grafana/grafana", "kindest/node"}


def test_every_public_image_of_a_dockerfile_is_a_reference() -> None:
    """A `FROM` that this file does not detect would not be checked."""
    images = references()
    for name in git(CHECKOUT, "ls-files", "*Dockerfile").splitlines():
        text = (CHECKOUT / name).read_text()
        stages = set(re.findall(r"^FROM \S+ AS (\S+)", text, flags=re.M))
        sources = re.findall(r"^FROM ([^\s$]+)(?=\s|$)", text, flags=re.M)
        sources += re.findall(r"^ARG \w*(?:BASE|IMAGE)=([^\s$]+)(?=\s|$)", text, flags=re.M)
        sources += re.findall(r"^COPY --from=([^\s$]+)(?=\s)", text, flags=re.M)
        for source in sources:
            assert source in images or source in stages | {"scratch"}, f"{name}: {source}"
