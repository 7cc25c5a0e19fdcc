"""Builds the image of Traefik from its Go module, and keeps it in the cache."""

from __future__ import annotations

import json
from pathlib import Path

from ci.common.console import run
from ci.common.gocache import trim_go_cache
from ci.common.goprograms import drop_old, environment, module_version
from ci.images import addon
from ci.images.addon import AddOn
from ci.images.catalog import Image

HERE = Path(__file__).parent
MODULE = HERE / "go"
DOCKERFILE = HERE / "Dockerfile"
TRAEFIK = "github.com/traefik/traefik/v3"
VERSION = module_version(TRAEFIK, MODULE)


def image() -> AddOn:
    """The image, which the Dockerfile compiles."""
    title, source = "Traefik, without its web UI", "https://github.com/traefik/traefik"
    made = Image("traefik", title, "Dockerfile", (), licenses="MIT", source=source, go=True)
    files = sorted(file for file in MODULE.rglob("*") if file.is_file())
    inputs = (DOCKERFILE.read_bytes(), *(file.read_bytes() for file in files))
    return AddOn(made, VERSION, {"Dockerfile": DOCKERFILE, "go": MODULE}, inputs)


def build() -> Path:
    """Compile and pack Traefik if the cache lacks it, which takes minutes; returns the archive."""
    target = addon.build(image())
    trim_go_cache()
    drop_old(target.parent.parent, {target, addon.name_file(target)})
    return target


def load() -> str:
    """Put the image into the cluster unless it is there; returns its full name."""
    return addon.load(build())


def in_module(path: str) -> Path:
    """A file of Traefik's module."""
    download = run(["go", "mod", "download", "-json", TRAEFIK], cwd=MODULE, env=environment(MODULE))
    return Path(json.loads(download.stdout)["Dir"]) / path
