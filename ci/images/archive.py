"""OCI archives of images, which containerd resolves by tag and by digest."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from backports.zstd import tarfile  # that of Python 3.14, because layers are compressed with zstd

from ci.common.console import Failure

LAYOUT = '{"imageLayoutVersion":"1.0.0"}'


def name_descriptors(index: dict[str, Any], repository: str, tag: str) -> str:
    """Add the two names by which containerd finds an image to its index; returns the digest.

    containerd finds a pod's `name:tag@sha256:...` only by the name `name@sha256:...`.
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
    """Write an OCI layout of one image as an archive; returns the image's digest. The result is reproducible."""
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


def merge(images: Sequence[tuple[Path, str, str]], target: Path) -> dict[str, str]:
    """Merge archives of one image each: (path, repository, tag). Returns digests by repository.

    A shared layer is written once. Every blob is compared with its digest.

    Raises:
        Failure: an archive is damaged.
    """
    descriptors: list[dict[str, Any]] = []
    digests: dict[str, str] = {}
    written: set[str] = set()
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as merged:
        for path, repository, tag in images:
            with tarfile.open(path) as one:
                index = dict(json.load(_member(one, "index.json")))
                index["manifests"] = index["manifests"][:1]
                digests[repository] = name_descriptors(index, repository, tag)
                index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"] = f"{repository}:{tag}"
                descriptors += index["manifests"]
                for member in one:
                    if member.name.startswith("blobs/") and member.isfile() and member.name not in written:
                        written.add(member.name)
                        content = _Hashed(_member(one, member.name))
                        merged.addfile(member, content)
                        if content.digest() != member.name.removeprefix("blobs/sha256/"):
                            raise Failure(
                                f"{path} is damaged: the content of {member.name} does not match its digest; "
                                "build it again"
                            )
        index = {"schemaVersion": 2, "manifests": descriptors}
        for name, text in (("index.json", json.dumps(index, sort_keys=True)), ("oci-layout", LAYOUT)):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text), 0o644
            merged.addfile(member, io.BytesIO(text.encode()))
    return digests


class _Hashed(io.RawIOBase):
    """A file that computes its hash while it is read."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content, self._hash = content, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        content = self._content.read(size)
        self._hash.update(content)
        return content

    def digest(self) -> str:
        """Digest of the bytes read so far."""
        return self._hash.hexdigest()


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.extractfile(name)
    if member is None:
        raise Failure(f"{archive.name!r} has no file {name}")
    return member


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


def sha256(file: Path) -> str:
    """Hash of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _blob(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def scratch(folder: Path) -> Path:
    """A new folder beside the archives, on the same disk."""
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(dir=folder))


def discard(folder: Path) -> None:
    """Remove a scratch folder."""
    shutil.rmtree(folder, ignore_errors=True)
