"""Images of add-ons of a cluster, such as Argo CD: not images of the platform, but made by the same builder.

An image is built once for each version of its inputs. The cache keeps its archive, beside a file with its name.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci import cluster
from ci.common.console import phase
from ci.common.paths import cache_dir
from ci.images import archive, builders
from ci.images.builders import Builder
from ci.images.catalog import Image


@dataclass(frozen=True)
class AddOn:
    """An image in the version of its program. Its Dockerfile is a file of the build's context.

    `context` has the files and folders of the context by their paths in it. `inputs` is what the image is made of: it
    and the base decide about the tag.
    """

    image: Image
    version: str
    context: Mapping[str, Path]
    inputs: tuple[bytes, ...]

    @property
    def folder(self) -> Path:
        """Cache folder of its archives."""
        return cache_dir() / self.image.name / "images"

    @property
    def repository(self) -> str:
        """Name of the image without a tag."""
        return f"localhost/house-platform/{self.image.name}"

    def tag(self, base: str) -> str:
        """Tag of the image on a base."""
        digest = hashlib.sha256(f"{base}\0".encode())
        for one in self.inputs:
            digest.update(hashlib.sha256(one).digest())
        return f"{self.version.removeprefix('v')}-{digest.hexdigest()[:12]}"


def build(addon: AddOn) -> Path:
    """Build the image unless the cache has it; returns its archive."""
    builder = builders.choose()
    tag = addon.tag(builder.prepare())
    target = addon.folder / f"{addon.image.name}-{tag}.tar"
    if not name_file(target).exists():
        with phase(f"make the image of {addon.image.title}"):
            _make(addon, builder, tag, target)
    return target


def name_file(target: Path) -> Path:
    """The file with the name of the image in an archive."""
    return target.with_suffix(".json")


def load(target: Path) -> str:
    """Put the image of an archive into the cluster unless it is there; returns its full name."""
    name = str(json.loads(name_file(target).read_text())["name"])
    if name.partition("@")[0] not in cluster.present_images():
        with phase(f"load {target.stem} into the cluster"):
            cluster.import_archives([target])
    return name


def _make(addon: AddOn, builder: Builder, tag: str, target: Path) -> None:
    local = f"house-platform/{addon.image.name}:{tag}"
    context = archive.scratch(cache_dir() / "containers" / "tmp")
    try:
        for path, source in addon.context.items():
            (context / path).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, context / path)
        builder.build(local, context / "Dockerfile", context, builder.arguments(addon.image), {})
    finally:
        archive.discard(context)
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = builder.export(local, target, addon.repository, tag)
    name = f"{addon.repository}:{tag}" + (f"@{digest}" if digest else "")
    name_file(target).write_text(json.dumps({"name": name}))
