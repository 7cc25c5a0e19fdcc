"""The newest images that this machine built, and programs out of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from ci.common.paths import CHECKOUT
from ci.images import archive, store

VALUES = CHECKOUT / "values" / "images-kind.yaml"


def built(name: str) -> Path:
    """The archive of an image that `python -m ci.images build` named last."""
    if not VALUES.exists():
        pytest.skip("no images are built: run `make images`")
    tag = yaml.safe_load(VALUES.read_text())["global"]["images"][name]["tag"]
    file = store.folder() / f"{name}-{tag}.tar"
    if not file.exists():
        pytest.skip(f"{file} is not there: run `make images`")
    return file


def program(name: str, folder: Path) -> Path:
    """Copy the program `bin/<name>` of the image `name` into a folder, and return its path."""
    copy = folder / name
    for member, content in archive.files(built(name)):
        if member.name == f"bin/{name}":
            copy.write_bytes(content.read())
    copy.chmod(0o755)
    return copy
