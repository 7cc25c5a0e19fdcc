"""Write a container image of one layer as an OCI archive, without a container tool.

The same input gives the same bytes on every machine: fixed times and owners, sorted entries, no compression.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class LayerEntry:
    """One file, link or folder of an image; exactly one of the first four is given, a folder has none of them."""

    file: Path | None = None
    text: str | None = None
    link: str | None = None
    mode: int = 0o755


@dataclass(frozen=True)
class Recipe:
    """What an image consists of. `entries` maps absolute paths without the leading slash to their content."""

    entries: Mapping[str, LayerEntry]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""


def write(name: str, recipe: Recipe, archive: Path) -> str:
    """Write the image `name` (as `registry/name:tag`) to `archive`; returns its manifest's digest.

    The archive names the image twice, as `NAME:TAG` and as `NAME@DIGEST`: containerd finds a reference of either
    form only under exactly that name.
    """
    layer = _layer(recipe.entries)
    settings: dict[str, Any] = {"Env": [PATH]}
    for key, value in (("Entrypoint", list(recipe.entrypoint)), ("Cmd", list(recipe.cmd)), ("User", recipe.user)):
        if value:
            settings[key] = value
    config = _json(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": [_descriptor(LAYER_TYPE, layer)],
        }
    )
    plain, _, tag = name.rpartition(":")
    described = {**_descriptor(MANIFEST_TYPE, manifest), "platform": {"os": "linux", "architecture": "amd64"}}
    index = _json(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    **described,
                    "annotations": {"io.containerd.image.name": full, "org.opencontainers.image.ref.name": tag},
                }
                for full in (name, f"{plain}@{_digest(manifest)}")
            ],
        }
    )
    partial = archive.with_suffix(".partial")
    with tarfile.open(partial, "w") as out:
        _put(out, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        for blob in (config, manifest, layer):
            _put(out, "blobs/sha256/" + hashlib.sha256(blob).hexdigest(), blob)
        _put(out, "index.json", index)
    partial.replace(archive)
    return _digest(manifest)


def _layer(entries: Mapping[str, LayerEntry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(entries):
            entry, info = entries[path], tarfile.TarInfo(path)
            info.mode = entry.mode
            if entry.link is not None:
                info.type, info.linkname = tarfile.SYMTYPE, entry.link
                tar.addfile(info)
            elif entry.file is not None or entry.text is not None:
                content = entry.file.read_bytes() if entry.file else (entry.text or "").encode()
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
    return buffer.getvalue()


def _put(out: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o644
    out.addfile(info, io.BytesIO(content))


def _digest(blob: bytes) -> str:
    return "sha256:" + hashlib.sha256(blob).hexdigest()


def _descriptor(media_type: str, blob: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest(blob), "size": len(blob)}


def _json(thing: object) -> bytes:
    return json.dumps(thing, sort_keys=True, separators=(",", ":")).encode()
