"""Reads, writes and compares values/images-<env>.yaml, the images of an environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from ci.common.console import Failure
from ci.common.paths import CHECKOUT
from ci.images import commits

HEADER = (
    "# Written by `make images` or `python -m ci.deploy.release`; do not edit. For every image of this repository:\n"
    "# tag, digest, and the last commit that changed it.\n"
)


@dataclass(frozen=True)
class Entry:
    """Tag, digest and commit of an image in the values of charts."""

    tag: str
    digest: str = ""  # "" if only the tag identifies it
    commit: str = ""  # see `commits`; "" in files of earlier releases


def file(env: str, checkout: Path = CHECKOUT) -> Path:
    """File of an environment's images."""
    return checkout / "values" / f"images-{env}.yaml"


def parse(text: str, name: str) -> dict[str, Entry]:
    """Parse the text of a file of images.

    Raises:
        Failure: the text is not such a file. The message has `name`.
    """
    try:
        images = yaml.safe_load(text)["global"]["images"]
        return {image: Entry(**entry) for image, entry in images.items()}
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as wrong:
        raise Failure(
            f"{name} does not have the format of `make images` ({wrong!r}): restore it from Git, or remove it"
        ) from wrong


def read(env: str, checkout: Path = CHECKOUT) -> dict[str, Entry]:
    """The images of an environment; none if there is no file.

    Raises:
        Failure: the file is damaged.
    """
    path = file(env, checkout)
    return parse(path.read_text(), f"values/{path.name}") if path.exists() else {}


def render(images: Mapping[str, Entry]) -> str:
    """The text of a file of images. It is reproducible."""
    entries = {name: {key: text for key, text in asdict(entry).items() if text} for name, entry in images.items()}
    return HEADER + yaml.safe_dump({"global": {"images": entries}}, sort_keys=True)


def write(env: str, images: Mapping[str, Entry], checkout: Path = CHECKOUT) -> Path:
    """Write an environment's images, all of them."""
    path = file(env, checkout)
    path.write_text(render(images))
    return path


def kept(before: Mapping[str, Entry], built: Mapping[str, Entry]) -> dict[str, Entry]:
    """Entries after a build. Unchanged images keep their commit, so that their pods stay.

    After a rebase, the same inputs are in another commit. A commit that is not traceable is replaced by one that is.
    """
    return {name: _keep(before.get(name), entry) for name, entry in built.items()}


def _keep(before: Entry | None, built: Entry) -> Entry:
    if before is None or (before.tag, before.digest) != (built.tag, built.digest):
        return built
    return before if commits.traceable(before.commit) or not commits.traceable(built.commit) else built
