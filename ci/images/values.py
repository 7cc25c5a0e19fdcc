"""values/images-<env>.yaml, by which an environment names its images: read, written and compared here alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from ci.console import Failure
from ci.images import commits
from ci.paths import CHECKOUT

HEADER = (
    "# Written by `make images`, or for a release by `python -m ci.release`; do not edit. Tag and digest of every\n"
    "# image of this repository, and the commit that changed it last.\n"
)


@dataclass(frozen=True)
class Entry:
    """An image as the charts name it."""

    tag: str
    digest: str = ""  # "" where only the tag identifies it
    commit: str = ""  # see `commits`; "" in files of before


def file(env: str, checkout: Path = CHECKOUT) -> Path:
    """Where an environment's images are named."""
    return checkout / "values" / f"images-{env}.yaml"


def parse(text: str, name: str) -> dict[str, Entry]:
    """The images that a file names.

    Raises:
        Failure: it is not such a file; the text says `name`.
    """
    try:
        images = yaml.safe_load(text)["global"]["images"]
        return {image: Entry(**entry) for image, entry in images.items()}
    except (yaml.YAMLError, TypeError, KeyError, AttributeError) as wrong:
        raise Failure(
            f"{name} does not name images as `make images` does ({wrong!r}): restore it from Git, or remove it"
        ) from wrong


def read(env: str, checkout: Path = CHECKOUT) -> dict[str, Entry]:
    """The images of an environment; none where there is no file yet.

    Raises:
        Failure: the file is damaged.
    """
    path = file(env, checkout)
    return parse(path.read_text(), f"values/{path.name}") if path.exists() else {}


def render(images: Mapping[str, Entry]) -> str:
    """The text of a file; the same images, the same bytes."""
    known = {name: {key: text for key, text in asdict(entry).items() if text} for name, entry in images.items()}
    return HEADER + yaml.safe_dump({"global": {"images": known}}, sort_keys=True)


def write(env: str, images: Mapping[str, Entry], checkout: Path = CHECKOUT) -> Path:
    """Write an environment's images, all of them."""
    path = file(env, checkout)
    path.write_text(render(images))
    return path


def kept(before: Mapping[str, Entry], built: Mapping[str, Entry]) -> dict[str, Entry]:
    """What was built, but for images that are as before: those keep their commit, so that their pods stay.

    The same inputs may stand in another commit after a rebase. A commit that traces nothing gives way to one that does.
    """
    return {name: _keep(before.get(name), entry) for name, entry in built.items()}


def _keep(before: Entry | None, built: Entry) -> Entry:
    if before is None or (before.tag, before.digest) != (built.tag, built.digest):
        return built
    return before if commits.traceable(before.commit) or not commits.traceable(built.commit) else built
