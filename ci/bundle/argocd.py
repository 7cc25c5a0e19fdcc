"""Adds Argo CD to a bundle: its image, its objects, and the charts and values for its Git server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ci.argocd import apply, build, manifests, offline
from ci.common.manifest import parse
from ci.common.paths import CHECKOUT
from ci.deploy import charts


@dataclass(frozen=True)
class Source:
    """Files of Argo CD."""

    archive: Path  # of its image, with the note that names it beside it
    official: Path  # its own manifests

    @property
    def tag_and_digest(self) -> tuple[str, str]:
        """Tag and digest of its image; the digest is "" if Docker built it."""
        name = str(json.loads(self.archive.with_suffix(".json").read_text())["name"])
        tagged, _, digest = name.partition("@")
        return tagged.rpartition(":")[2], digest


def built() -> Source:
    """Argo CD as `make gitops` installs it; compiles it if it is not in the cache."""
    return Source(build.build(), build.official_manifests())


def gather(folder: Path, env: str, lock: Path, settings: Mapping[str, str], image: str, official: Path) -> None:
    """Write the files that `ci.argocd.offline` reads."""
    target = folder / offline.FOLDER.relative_to(CHECKOUT)
    target.mkdir(parents=True)
    objects = manifests.everything(parse(official.read_text()), image)
    (target / offline.INSTALL).write_text(json.dumps(objects, indent=1))
    delivery = manifests.delivery(env, apply.GIT_URL, settings)
    (target / offline.DELIVERY).write_text(json.dumps(delivery, indent=1))
    for path in (*charts.sources(), CHECKOUT / "values" / f"{env}.yaml"):
        copy = target / offline.TREE / path.relative_to(CHECKOUT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    shutil.copyfile(lock, target / offline.TREE / "values" / f"images-{env}.yaml")
