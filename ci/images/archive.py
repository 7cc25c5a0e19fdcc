"""One image as an OCI archive that containerd resolves by tag and by digest."""

from __future__ import annotations

import copy
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ci.console import Failure


def name_descriptors(index: dict[str, Any], repository: str, tag: str) -> str:
    """Give an index of one image the two names under which containerd looks for it; returns the digest.

    A pod's `name:tag@sha256:...` is found only through a record of its own, `name@sha256:...`.
    """
    (descriptor,) = index["manifests"]
    digest = str(descriptor["digest"])
    by_digest = copy.deepcopy(descriptor)
    descriptor["annotations"] = {
        "io.containerd.image.name": f"{repository}:{tag}",
        "org.opencontainers.image.ref.name": tag,
    }
    by_digest["annotations"] = {"io.containerd.image.name": f"{repository}@{digest}"}
    index["manifests"] = [descriptor, by_digest]
    return digest


def pack(layout: Path, target: Path, repository: str, tag: str) -> str:
    """Write an OCI layout of one image as an archive; returns the image's digest. The same layout, the same bytes."""
    index_file = layout / "index.json"
    index = json.loads(index_file.read_text())
    digest = name_descriptors(index, repository, tag)
    index_file.write_text(json.dumps(index, sort_keys=True))
    draft = target.with_suffix(".part")
    with tarfile.open(draft, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in sorted(path for path in layout.rglob("*") if path.is_file()):
            member = archive.gettarinfo(path, str(path.relative_to(layout)))
            member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
            with path.open("rb") as content:
                archive.addfile(member, content)
    draft.replace(target)
    return digest


def describe(archive: Path) -> tuple[str, int]:
    """Digest of the image in an archive, and the size of its layers in bytes.

    Raises:
        Failure: the archive is damaged.
    """
    try:
        with tarfile.open(archive) as content:
            index = json.load(content.extractfile("index.json"))  # type: ignore[arg-type]
            digest = str(index["manifests"][0]["digest"])
            manifest = json.load(content.extractfile(f"blobs/{digest.replace(':', '/')}"))  # type: ignore[arg-type]
    except (tarfile.TarError, KeyError, ValueError, OSError) as damaged:
        raise Failure(f"{archive} is damaged ({damaged}): delete it and run `make images`") from damaged
    return digest, sum(layer["size"] for layer in manifest["layers"])


def scratch(folder: Path) -> Path:
    """A fresh folder beside the archives, on the same disk."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def discard(folder: Path) -> None:
    """Remove a scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
