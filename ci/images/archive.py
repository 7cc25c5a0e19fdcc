"""One image as an OCI archive that containerd resolves by tag and by digest."""

from __future__ import annotations

import copy
import json
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


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


def contents(archive: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Manifest and configuration of the image in an archive."""
    with tarfile.open(archive) as outer:

        def read(name: str) -> dict[str, Any]:
            return dict(json.load(outer.extractfile(name)))  # type: ignore[arg-type]

        manifest = read(_blob(read("index.json")["manifests"][0]["digest"]))
        return manifest, read(_blob(manifest["config"]["digest"]))


def files(archive: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes]]]:
    """Every file in the layers of the image in an archive, lowest layer first, with its content to read at once."""
    manifest, _ = contents(archive)
    with tarfile.open(archive) as outer:
        for layer in manifest["layers"]:
            with tarfile.open(fileobj=outer.extractfile(_blob(layer["digest"])), mode="r|*") as inner:
                for member in inner:
                    content = inner.extractfile(member) if member.isfile() else None
                    if content:
                        yield member, content


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def scratch(folder: Path) -> Path:
    """A fresh folder beside the archives, on the same disk."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def discard(folder: Path) -> None:
    """Remove a scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
